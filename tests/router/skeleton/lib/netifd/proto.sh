#!/bin/sh
# Run by netifd while it sets up or tears down an interface: proto.sh setup|teardown INTERFACE. For a modem's interface
# this does what ROOter's handlers do: the balancing of wanN follows the modem's profile, before netifd says that it is
# up, and ends with the connection.

modem_of() {
	local number inter
	for number in 1 2 3 4 5; do
		inter=$(uci -q get "modem.modeminfo$number.inter") || continue
		[ "${inter:-0}" != 0 ] || inter=$number
		[ "wan$inter" = "$1" ] && echo "$number" && return
	done
	return 1
}

[ -e /etc/config/modem ] && [ -e /etc/config/mwan3 ] || exit 0
modem=$(modem_of "$2") || exit 0
case "$1" in
setup)
	enabled=$(uci -q get "modem.modeminfo$modem.lb")
	uci set "mwan3.$2.enabled=${enabled:-0}"
	;;
teardown)
	uci set "mwan3.$2.enabled=0"
	;;
esac
uci commit mwan3
/usr/sbin/mwan3 restart
