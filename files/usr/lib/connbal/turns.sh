# Sourced: how many processes do the same thing at once, without a daemon to ask and without Python.
#
# A place is a file that holds "PID START", the number of a process and when it started. Nobody has to take it away: a
# process that has ended, or was killed, holds nothing any more, and neither does another that has got its number.

# Sets `started` to when a process started, in ticks since the boot; fails where there is none.
started() {
	local line IFS=' '
	started=""
	read -r line 2>/dev/null <"/proc/$1/stat" || return 1
	# The name, which may hold anything, ends with the last bracket; what follows is numbers, but for the state.
	# shellcheck disable=SC2086
	set -- ${line##*) }
	[ "$1" != Z ] && [ "$#" -ge 20 ] || return 1
	shift 19
	started=$1
}

# Whether the process that a place names is there still.
held() {
	local pid="" start="" IFS=' '
	read -r pid start 2>/dev/null <"$1" || return 1
	case "$pid" in
	""|*[!0-9]*) return 1 ;;
	esac
	started "$pid" && [ "$started" = "$start" ]
}

# Takes a place for this process; fails with 1 where one who is there has it, with 2 where nothing can be written, with 3
# where one who is there has it, and it was away for a moment.
place() {
	local code=1
	if [ -e "$1" ]; then
		! held "$1" || return 1
		# Of several who find it left behind, one moves it out of the way; and looks at what was moved.
		mv "$1" "$1.$$" 2>/dev/null || return 1
		if held "$1.$$"; then
			ln "$1.$$" "$1" 2>/dev/null
			rm -f "$1.$$"
			return 3
		fi
	fi
	started $$ && echo "$$ $started" 2>/dev/null >"$1.$$" || code=2
	# With its content from the first moment on, and never over another's.
	[ $code = 2 ] || ! ln "$1.$$" "$1" 2>/dev/null || code=0
	rm -f "$1.$$" 2>/dev/null
	return $code
}

# Takes one of the places NAME.1 to NAME.COUNT, and sets `took` to it. Fails with 1 where all are taken, with 2 where
# nothing can be written.
any_place() {
	local number=0
	while [ $number -lt "$2" ]; do
		number=$((number + 1))
		took=$1.$number
		place "$took"
		case $? in
		0) return 0 ;;
		2) return 2 ;;
		esac
	done
	return 1
}

# Waits until fewer than COUNT are at work on NAME, while fewer than QUEUE others wait too, SECONDS at most. Sets
# `waited`, in seconds. Fails with 1 where there are too many, with 2 where nothing can be written. The place lasts as
# long as this process, whatever program it becomes.
turn() {
	local directory=${CONNBAL_RUN_DIR:-/var/run}/connbal/turns name="" code=0 begin now seat
	waited=0
	[ -d "$directory" ] || (umask 077 && mkdir -p "$directory") 2>/dev/null
	name=$directory/$1
	any_place "$name" "$2"
	code=$?
	[ $code = 1 ] || return $code
	any_place "$name-waits" "$3" || return $?
	seat=$took
	read -r begin now </proc/uptime
	begin=${begin%.*}
	while [ $code = 1 ] && [ $waited -lt "$4" ]; do
		sleep 0.1 2>/dev/null || sleep 1
		any_place "$name" "$2"
		code=$?
		read -r now _ </proc/uptime
		waited=$((${now%.*} - begin))
	done
	rm -f "$seat"
	return $code
}
