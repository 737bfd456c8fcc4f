# What scripts of packages take from OpenWrt's functions.sh, as far as these need it.

list_contains() {
	eval "case \" \$$1 \" in *\" $2 \"*) return 0 ;; esac"
	return 1
}

default_postinst() {
	local root="$IPKG_INSTROOT" name script list
	name=${1##*/}
	name=${name%.*}
	list="$root/usr/lib/opkg/info/$name.list"
	(. "$root/usr/lib/opkg/info/$name.postinst-pkg")
	if [ -z "$root" ]; then
		for script in $(sed -n 's!^/etc/uci-defaults/!!p' "$list"); do
			(cd /etc/uci-defaults && [ -f "$script" ] && . "./$script" && rm -f "$script") || :
		done
		uci commit
	fi
	for script in $(grep '^/etc/init.d/' "$list"); do
		if [ -n "$root" ]; then
			/bin/sh "$root/etc/rc.common" "$root$script" enable
		else
			"$script" enable
			"$script" start
		fi
	done
}

default_prerm() {
	local root="$IPKG_INSTROOT" name script
	name=${1##*/}
	name=${name%.*}
	(. "$root/usr/lib/opkg/info/$name.prerm-pkg")
	for script in $(grep '^/etc/init.d/' "$root/usr/lib/opkg/info/$name.list"); do
		if [ -n "$root" ]; then
			/bin/sh "$root/etc/rc.common" "$root$script" disable
		else
			[ "$PKG_UPGRADE" = 1 ] || "$script" disable
			"$script" stop
		fi
	done
}

# Sections and options of a package, asked for as they are needed.

config_load() { _config_package=$1; }

config_get() {
	local value
	value=$(uci -q get "$_config_package.$2.$3")
	eval "$1=\${value:-\$4}"
}

config_foreach() {
	local callback="$1" kind="$2" section
	shift 2
	for section in $(uci -q show "$_config_package" | sed -n "s/^$_config_package\.\([^.=]*\)=$kind\$/\1/p"); do
		"$callback" "$section" "$@"
	done
}

config_list_foreach() {
	local section="$1" option="$2" callback="$3" value
	shift 3
	for value in $(uci -q get "$_config_package.$section.$option"); do
		"$callback" "$value" "$@"
	done
}
