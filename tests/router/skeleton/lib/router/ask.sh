# Asks the router's server: ask NAME WORD... It answers with an exit status, and what goes to stderr and stdout.
# The words are in a file, because a line of a pipe is only whole while it is short. A short answer starts no program,
# so that what the router's own programs cost is not lost among stand-ins.

ask() {
	printf '%s\0' "$@" >/tmp/router/$$.ask
	ask_sent
}

# Sends what is in the file already, with or without an input. Waiting is a read from a pipe that nobody writes to.
ask_sent() {
	local status errors long line here=/tmp/router/$$
	echo $$ 1<>/tmp/router/requests
	until [ -p "$here.reply" ]; do read -r -t 0.002 line <>/tmp/router/pause; done
	{
		read -r status errors long
		while [ "$errors" -gt 0 ] && IFS= read -r line; do
			printf '%s\n' "$line" >&2
			errors=$((errors - 1))
		done
		line=""
		while IFS= read -r line; do printf '%s\n' "$line"; done
		printf '%s' "$line"
	} <"$here.reply"
	if [ "$long" = 1 ]; then
		cat "$here.out"
		rm -f "$here.out"
	fi
	return "$status"
}
