'use strict';
'require baseclass';

/* Numbers and states in words. Pure. */

/* The text with each %s replaced by the next value. Values are taken as they are, whatever is in them. */
function fill(text) {
	const values = Array.prototype.slice.call(arguments, 1);
	let next = 0;

	return text.replace(/%s/g, function() { return String(values[next++]); });
}

/* Seconds as "45 s", "5 min", "2 h 5 min", "3 d 4 h"; null: empty. */
function duration(seconds) {
	if (typeof(seconds) != 'number' || !isFinite(seconds) || seconds < 0)
		return '';

	const whole = Math.floor(seconds);

	if (whole < 60)
		return fill(_('%s s'), whole);
	if (whole < 3600)
		return fill(_('%s min'), Math.floor(whole / 60));
	if (whole < 86400)
		return fill(_('%s h %s min'), Math.floor(whole / 3600), Math.floor(whole % 3600 / 60));

	return fill(_('%s d %s h'), Math.floor(whole / 86400), Math.floor(whole % 86400 / 3600));
}

/* A number with at most one digit behind the point. */
function short(number) {
	return String(Math.round(number * 10) / 10);
}

/* Per cents; what is above 0 never reads "0 %", what is below 100 never "100 %". */
function percent(value) {
	let text = short(value);

	if (value > 0 && text == '0')
		text = '< 0.1';
	else if (value < 100 && text == '100')
		text = '> 99.9';

	return fill(_('%s %'), text);
}

function latency(milliseconds) {
	if (milliseconds == null)
		return '';

	return fill(_('%s ms'), milliseconds < 10 ? short(milliseconds) : Math.round(milliseconds));
}

function loss(value) {
	return (value == null) ? '' : fill(_('%s lost'), percent(value));
}

const STATES = {
	online: [ 'good', _('online') ],
	offline: [ 'bad', _('offline') ],
	connecting: [ 'waiting', _('connecting') ],
	disconnecting: [ 'waiting', _('disconnecting') ],
	/* The tracker's word where an enabled source has no network. */
	disabled: [ 'off', _('no network') ]
};

/* An interface of status/1 as { kind, state, reason, since }: kind is good, bad, waiting or off. */
function source(one) {
	const tracker = one.tracker;

	if (!one.enabled)
		return { kind: 'off', state: _('disabled'), reason: one.reason, since: '' };

	if (!tracker)
		return { kind: one.up ? 'good' : 'bad', state: one.up ? _('up') : _('down'), reason: one.reason, since: '' };

	const known = STATES[tracker.status] || [ 'waiting', tracker.status ];
	const unused = tracker.online && !one.up;

	return {
		kind: (unused && known[0] == 'good') ? 'waiting' : known[0],
		state: known[1],
		reason: unused ? fill(_('not used, %s; %s'), one.reason, tracker.reason) : tracker.reason,
		since: duration(tracker.since)
	};
}

/* A host of status/1 as one line. */
function host(one) {
	const states = { up: _('answers'), down: _('does not answer'), skipped: _('skipped') };
	const parts = [ states[one.state] || _('not probed yet'), latency(one.latency), loss(one.loss), one.fault ];

	return parts.filter(Boolean).join(', ');
}

const FAMILIES = { ipv4: 'IPv4', ipv6: 'IPv6', any: _('IPv4 and IPv6') };

function family(name) {
	return FAMILIES[name] || name;
}

function plain(value) {
	return Array.isArray(value) ? value.join(' ') : String(value);
}

/* What a rule matches, as words: its options of rule-list/1. */
function matches(options) {
	const parts = [];
	const add = function(text, value) { parts.push(fill(text, plain(value))); };
	const any = [ '', '0.0.0.0/0', '::/0', 'all' ];
	const given = function(name) {
		return options[name] != null && any.indexOf(plain(options[name])) < 0;
	};

	if (given('src_ip'))
		add(_('from %s'), options.src_ip);
	if (given('src_mac'))
		add(_('from device %s'), options.src_mac);
	if (given('src_iface'))
		add(_('in by %s'), options.src_iface);
	if (given('src_port'))
		add(_('from port %s'), options.src_port);
	if (given('dest_ip'))
		add(_('to %s'), options.dest_ip);
	if (given('ipset'))
		add(_('to the addresses in set %s'), options.ipset);
	if (given('dest_port'))
		add(_('to port %s'), options.dest_port);
	if (given('proto'))
		add(_('protocol %s'), options.proto);
	if (given('family') && plain(options.family) != 'any')
		add(_('%s only'), family(plain(options.family)));

	return parts.length ? parts.join(', ') : _('everything');
}

return baseclass.extend({
	fill: fill,
	duration: duration,
	percent: percent,
	latency: latency,
	loss: loss,
	source: source,
	host: host,
	family: family,
	matches: matches
});
