# What scripts of packages ask about interfaces, as far as these need it: all of it from netifd.

# The gateway of the IPv4 default route, into the variable $1, of interface $2. Fails where there is none.
network_get_gateway() {
	local gateway
	gateway=$(ubus call "network.interface.$2" status 2>/dev/null | tr -d ' \n\t' |
		sed -n 's/.*{"target":"0\.0\.0\.0","mask":0,"nexthop":"\([0-9.]*\)".*/\1/p')
	eval "$1=\$gateway"
	[ -n "$gateway" ]
}
