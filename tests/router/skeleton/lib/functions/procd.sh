# The functions that init scripts describe their services with. The description is a list of words in a file, which goes
# to the router's server as it is.

. /lib/router/ask.sh

_procd_words=/tmp/router/$$.words
_procd_word() { printf '%s\0' "$@" >>"$_procd_words"; }

procd_lock() { :; }

procd_open_service() {
	: >"$_procd_words"
	_procd_word procd set "$1" "$2"
}

procd_close_service() {
	type service_triggers >/dev/null 2>&1 && service_triggers
	mv "$_procd_words" /tmp/router/$$.ask
	ask_sent
}

procd_open_instance() {
	_procd_instances=$((_procd_instances + 1))
	_procd_word instance "${1:-instance$_procd_instances}"
}

procd_set_param() {
	local name="$1"
	shift
	_procd_word param "$name" $# "$@"
}

procd_append_param() {
	local name="$1"
	shift
	_procd_word append "$name" $# "$@"
}

procd_close_instance() { :; }
procd_open_trigger() { :; }
procd_close_trigger() { :; }

procd_add_reload_trigger() {
	local file
	for file in "$@"; do
		_procd_word trigger "$file"
	done
}

procd_kill() { (ask procd kill "$1" "$2"); }
procd_running() { (ask procd running "$1" "$2"); }
procd_send_signal() { (ask procd signal "$1" "$2" "$3"); }
