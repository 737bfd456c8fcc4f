# Asks the router's server: ask NAME WORD... It answers with an exit status, and what goes to stdout and stderr.
# The words are in a file, because a line of a pipe is only whole while it is short.

ask() {
	local status here=/tmp/router/$$
	printf '%s\0' "$@" >"$here.ask"
	ask_sent
}

# Sends what is in the file already, with or without an input.
ask_sent() {
	local status here=/tmp/router/$$
	mkfifo "$here.reply"
	echo $$ 1<>/tmp/router/requests
	read -r status <"$here.reply"
	[ ! -s "$here.err" ] || cat "$here.err" >&2
	[ ! -s "$here.out" ] || cat "$here.out"
	rm -f "$here.ask" "$here.in" "$here.reply" "$here.out" "$here.err"
	return "$status"
}
