'use strict';
'require baseclass';
'require connbal.words as words';

/* What the page shows and asks, worked out from connbal's documents. Pure. */

/* --- findings --- */

const SEVERITIES = [ 'error', 'warning', 'info' ];

/* Findings of all lists, each once, the worst first. */
function findings(lists) {
	const seen = {}, all = [];

	lists.forEach(function(list) {
		(list || []).forEach(function(one) {
			const key = JSON.stringify([ one.code, one.place, one.message ]);

			if (!seen[key]) {
				seen[key] = true;
				all.push(one);
			}
		});
	});

	const rank = function(one) {
		const found = SEVERITIES.indexOf(one.severity);
		return found < 0 ? SEVERITIES.length : found;
	};

	return all.map(function(one, index) { return [ rank(one), index, one ]; })
		.sort(function(a, b) { return a[0] - b[0] || a[1] - b[1]; })
		.map(function(entry) { return entry[2]; });
}

const WORD = /^[a-z][a-z-]*$/;
/* What means the same to every shell as it stands. Values come from the configuration, and a copied line is run. */
const SAFE = /^[A-Za-z0-9_@%+=:.\/\[\]-]+$/;

/* Ends a remedy's command where a comma, or a word that belongs to no option, shows that prose goes on. */
function command(text) {
	const taken = [];
	let options = false, open = false;

	for (let word of text.split(' ')) {
		const last = /[,;]$/.test(word);
		word = word.replace(/[,;]$/, '');

		if (/^--[a-z]/.test(word)) {
			options = true;
			open = true;
		}
		else if (options && !open) {
			break;
		}
		else {
			open = false;
		}

		if (!SAFE.test(word))
			return null;

		taken.push(word);

		/* connbal TYPE VERB NAME: what follows is an option or prose. */
		if (!options && taken.length > 4)
			return null;
		if (last)
			break;
	}

	return (taken.length > 1 && WORD.test(taken[1])) ? taken.join(' ') : null;
}

/* The commands in a remedy that can be copied as they stand. */
function commands(remedy) {
	const found = [];
	const start = /(^|[ :])connbal /g;
	let match;

	while ((match = start.exec(remedy)) != null) {
		const one = command(remedy.slice(match.index + match[1].length));

		if (one && found.indexOf(one) < 0)
			found.push(one);
	}

	return found;
}

/* --- policies --- */

/* Policies of status/1 as [ { name, tiers: [ { family, shares: [ { interface, percent } ], reason } ] } ]. */
function policies(status) {
	const found = [], byName = Object.create(null);

	status.policies.forEach(function(tier) {
		if (!byName[tier.policy])
			found.push(byName[tier.policy] = { name: tier.policy, tiers: [] });

		byName[tier.policy].tiers.push({
			family: tier.family,
			reason: tier.reason,
			shares: tier.members.map(function(member) {
				return { 'interface': member.interface, percent: member.percent };
			})
		});
	});

	/* A family in which a policy has nobody is worth a line only where it is alone. */
	found.forEach(function(policy) {
		const used = policy.tiers.filter(function(tier) { return tier.shares.length; });

		if (used.length)
			policy.tiers = used;
		else if (policy.tiers.length > 1 && policy.tiers[0].reason == policy.tiers[1].reason)
			policy.tiers = [ { family: 'any', reason: policy.tiers[0].reason, shares: [] } ];
	});

	return found;
}

/* --- rules --- */

/* Rules of rule-list/1 with what status/1 (or null) knows of each. */
function rules(list, status) {
	const live = Object.create(null), named = Object.create(null), nameless = [];

	list.rules.forEach(function(one) { named[one.name || ''] = true; });
	((status && status.rules) || []).forEach(function(one) {
		live[one.name] = one;

		if (!named[one.name])
			nameless.push(one);
	});

	/* The status gives a rule without a name one of its own, which the list does not know: they go by their order. */
	const ordered = list.rules.filter(function(one) { return !one.name; });
	const agree = ordered.length == nameless.length;

	return list.rules.map(function(one) {
		const known = (one.name ? live[one.name] : agree ? nameless[ordered.indexOf(one)] : null) || null;

		return {
			reference: one.reference,
			label: one.name || words.fill(_('rule %s, without a name'), one.number),
			named: !!one.name,
			number: one.number,
			enabled: one.enabled,
			policy: one.policy,
			matches: words.matches(one.options),
			packets: known ? known.packets : null,
			unused: (known && !known.families.length) ? known.reason : ''
		};
	});
}

/* Whether two rule-list/1 say the same, so that a place or a name still means what the page shows. */
function sameRules(one, other) {
	return JSON.stringify(one.rules) == JSON.stringify(other.rules);
}

/* The arguments of `move` for putting the rule at index `from` where `to` is; null: it stands there. */
function move(shown, from, to) {
	if (from == to || !shown[from] || !shown[to])
		return null;

	const name = shown[from].reference;

	if (to == from - 1)
		return { name: name, place: 'up', other: null };
	if (to == from + 1)
		return { name: name, place: 'down', other: null };
	if (to == 0)
		return { name: name, place: 'first', other: null };
	if (to == shown.length - 1)
		return { name: name, place: 'last', other: null };

	return { name: name, place: (to < from) ? 'before' : 'after', other: shown[to].reference };
}

/* The index at which a rule taken from `from` ends where it is dropped at gap `gap` (0: above all). */
function dropIndex(from, gap) {
	return (gap > from) ? gap - 1 : gap;
}

/* --- explain --- */

const VERDICTS = {
	matched: _('matches'),
	no: _('does not match'),
	unused: _('is not in use'),
	'not reached': _('is not reached')
};

/* A way of explain/1 in words. */
function way(one) {
	const target = one['interface'] ||
		{ 'default': _('the main routing table'), unreachable: _('refused (unreachable)'), blackhole: _('dropped (blackhole)'),
		  none: _('the main routing table') }[one.meaning] || _('not known');
	const parts = [ target ];

	if (one.device)
		parts.push(words.fill(_('by device %s'), one.device));
	if (one.gateway)
		parts.push(words.fill(_('to gateway %s'), one.gateway));
	if (one.refused)
		parts.push(words.fill(_('not sent: %s'), one.refused));

	return { percent: one.percent, text: parts.join(', ') };
}

/* explain/1 as { headline, ways, rules, left, policy, notes }, all words. */
function story(doc) {
	const notes = doc.notes.slice();
	const ways = doc.outcomes.map(way);

	if (doc.applied === false)
		notes.push(_('The configuration is not applied: this is how it would be.'));
	else if (doc.pending > 0)
		notes.push(_('Changes wait to be applied: this is how it would be after that.'));
	if (doc.might_match.length)
		notes.push(words.fill(_('With more known of the connection, these rules might match first: %s.'),
			doc.might_match.join(', ')));
	if (doc.new_connection)
		notes.push(words.fill(_('This connection is open. A new one: %s.'),
			doc.new_connection.outcomes.map(function(one) { return way(one).text; }).join('; ')));
	if (doc.sticky)
		notes.push(words.fill(_('The source is remembered on %s.'), doc.sticky));

	return {
		headline: ways.map(function(one) {
			return ways.length > 1 ? words.percent(one.percent) + ' ' + one.text : one.text;
		}),
		because: doc.because,
		rules: doc.rules.map(function(one) {
			return {
				number: one.number,
				name: one.name,
				matched: one.verdict == 'matched',
				text: [ VERDICTS[one.verdict] || one.verdict ].concat(one.reasons.length ? [ one.reasons.join('; ') ] : []).join(': ')
			};
		}),
		left: doc.rules_left_out,
		policy: doc.policy ? words.fill(_('Policy %s: %s'), doc.policy.name, doc.policy.reason) : '',
		notes: notes
	};
}

/* The form's fields as arguments of `explain`: what is empty is left out. */
function question(fields) {
	const found = {};

	[ 'src', 'dst', 'proto', 'dport', 'sport', 'iif', 'mac' ].forEach(function(name) {
		const value = String(fields[name] || '').trim();

		if (value)
			found[name] = value;
	});

	return found;
}

/* --- scenarios --- */

function present(values) {
	return values.map(function(value) { return String(value || '').trim(); }).filter(Boolean);
}

function twice(names) {
	return names.filter(function(name, index) { return names.indexOf(name) < index; })[0];
}

/* The fields of a scenario's form as { options } for `setup`, or { error } in words. */
function setup(scenario, fields) {
	const options = {}, name = String(fields.name || '').trim();

	if (name)
		options.name = name;

	if (scenario == 'device') {
		const ip = String(fields.ip || '').trim(), mac = String(fields.mac || '').trim();

		if (!ip && !mac)
			return { error: _('Say which device: its IP address or its MAC address.') };
		if (ip)
			options.ip = ip;
		if (mac)
			options.mac = mac;

		options.use = present([ fields.use, fields.then ]);

		if (!fields.use)
			return { error: _('Say which source the device uses.') };
		if (twice(options.use))
			return { error: words.fill(_('%s is chosen twice.'), twice(options.use)) };
		if (fields.others)
			options['else'] = [ fields.others ];

		return { options: options };
	}

	if (scenario == 'failover') {
		options.interfaces = present(fields.interfaces);

		if (options.interfaces.length < 2)
			return { error: _('Choose at least two sources, in the order in which they are used.') };
		if (twice(options.interfaces))
			return { error: words.fill(_('%s is chosen twice.'), twice(options.interfaces)) };

		return { options: options };
	}

	options.shares = Object.create(null);

	for (let source in fields.shares) {
		const text = String(fields.shares[source] || '').trim();

		if (text == '' || text == '0')
			continue;
		if (!/^[0-9]{1,7}$/.test(text))
			return { error: words.fill(_('The share of %s is no whole number.'), source) };

		options.shares[source] = parseInt(text, 10);
	}

	if (Object.keys(options.shares).length < 2)
		return { error: _('Give at least two sources a share.') };
	if (fields.affinity)
		options.affinity = fields.affinity;

	return { options: options };
}

/* A rule of edit/1 that a scenario makes, in words. */
function plan(one) {
	const shared = one.members.filter(function(member) { return member.percent > 0; });
	const waiting = one.members.filter(function(member) { return !(member.percent > 0); });
	let text = shared.map(function(member) {
		return shared.length > 1 ? member.interface + ' ' + words.percent(member.percent) : member.interface;
	}).join(', ');

	waiting.forEach(function(member) { text += words.fill(_(', while it is down %s'), member.interface); });

	return words.fill(_('Rule %s, policy %s: %s'), one.rule, one.policy, text);
}

/* What became of an edit (edit/1), as { kind: good, waiting or bad, lines }. */
function outcome(doc) {
	const lines = [];
	let kind = 'good';

	if (doc.error) {
		kind = 'bad';
		lines.push(words.fill(_('Written, but not applied: %s'), doc.error));
	}
	else if (!doc.changed) {
		lines.push(_('Nothing to change.'));
	}
	else if (doc.applied && doc.applied.by == 'nobody') {
		kind = 'waiting';
		lines.push(words.fill(_('Written, not applied: %s'), doc.applied.reason));
	}
	else if (!doc.applied) {
		kind = 'waiting';
		lines.push(_('Written, not applied.'));
	}
	else {
		lines.push(_('Written and applied.'));
	}

	if (doc.waiting) {
		kind = (kind == 'good') ? 'waiting' : kind;
		lines.push(words.fill(_('It goes back by itself in %s, unless it is kept.'), words.duration(doc.waiting.left)));
	}

	return { kind: kind, lines: lines.concat(doc.notes) };
}

return baseclass.extend({
	findings: findings,
	commands: commands,
	policies: policies,
	rules: rules,
	sameRules: sameRules,
	move: move,
	dropIndex: dropIndex,
	story: story,
	question: question,
	setup: setup,
	plan: plan,
	outcome: outcome
});
