'use strict';

const test = require('node:test');
const assert = require('node:assert/strict');
const make = require('./page.js');

const load = name => make.world({}).module(name);

test('numbers in words', async () => {
	const words = await load('words');

	assert.equal(words.fill('%s of %s', '%s', 2), '%s of 2');
	assert.deepEqual([ 0, 59.9, 60, 3600, 3725, 90000, 400000 ].map(words.duration),
		[ '0 s', '59 s', '1 min', '1 h 0 min', '1 h 2 min', '1 d 1 h', '4 d 15 h' ]);
	assert.deepEqual([ null, -1, NaN, Infinity, 'x' ].map(words.duration), [ '', '', '', '', '' ]);
	assert.deepEqual([ 0, 0.001, 33.333, 50, 99.99, 100 ].map(words.percent), [ '0 %', '< 0.1 %', '33.3 %', '50 %', '> 99.9 %', '100 %' ]);
	assert.deepEqual([ words.latency(null), words.latency(1.26), words.latency(45.4), words.loss(null), words.loss(20) ],
		[ '', '1.3 ms', '45 ms', '', '20 % lost' ]);
});

test('the state of a source', async () => {
	const words = await load('words'), source = make.source;
	const tracker = source('a').tracker;

	assert.deepEqual(words.source(source('a')), { kind: 'good', state: 'online', reason: '1 of 1 hosts answers', since: '1 h 2 min' });
	assert.equal(words.source(source('a', { enabled: false })).kind, 'off');
	assert.deepEqual([ true, false ].map(up => words.source(source('a', { up, tracker: null })).state), [ 'up', 'down' ]);

	const unused = words.source(source('a', { up: false, reason: 'no gateway' }));
	assert.equal(unused.kind, 'waiting');
	assert.equal(unused.reason, 'not used, no gateway; 1 of 1 hosts answers');
	assert.equal(words.source(source('a', { up: false, tracker: { ...tracker, status: 'offline', online: false } })).kind, 'bad');
	assert.equal(words.source(source('a', { tracker: { ...tracker, status: 'new word' } })).state, 'new word');
});

test('hosts and matches', async () => {
	const words = await load('words');

	assert.equal(words.host({ host: 'h', state: 'up', latency: 12.3, loss: 0, fault: '' }), 'answers, 12 ms, 0 % lost');
	assert.equal(words.host({ host: 'h', state: 'down', latency: null, loss: 100, fault: 'timeout' }), 'does not answer, 100 % lost, timeout');
	assert.equal(words.host({ host: 'h', state: 'unknown', latency: null, loss: null, fault: '' }), 'not probed yet');
	assert.equal(words.matches({ dest_ip: '0.0.0.0/0', proto: 'all', family: 'any', use_policy: 'x' }), 'everything');
	assert.equal(words.matches({ src_ip: '1.2.3.4', src_mac: [ 'a', 'b' ], dest_port: '443', proto: 'tcp', ipset: 's', family: 'ipv6', src_iface: 'lan', src_port: '9' }),
		'from 1.2.3.4, from device a b, in by lan, from port 9, to the addresses in set s, to port 443, protocol tcp, IPv6 only');
});

test('findings: each once, worst first', async () => {
	const model = await load('model');
	const one = (severity, code) => ({ severity, code, place: 'p', message: 'm', remedy: '' });
	const found = model.findings([ [ one('info', 'a'), one('error', 'b') ], null, [ one('error', 'b'), one('warning', 'c'), one('new', 'd') ] ]);

	assert.deepEqual(found.map(each => each.code), [ 'b', 'c', 'a', 'd' ]);
});

test('commands in remedies', async () => {
	const model = await load('model');
	const of = text => model.commands(text);

	assert.deepEqual(of('connbal rule move SmartTV --before All_Traffic'), [ 'connbal rule move SmartTV --before All_Traffic' ]);
	assert.deepEqual(of('connbal interface set wan --interval 10 halves it'), [ 'connbal interface set wan --interval 10' ]);
	assert.deepEqual(of('use it in a rule, or connbal policy delete old'), [ 'connbal policy delete old' ]);
	assert.deepEqual(of('connbal rule enable x, or connbal policy delete y --cascade'), [ 'connbal rule enable x', 'connbal policy delete y --cascade' ]);
	assert.deepEqual(of('connbal globals set --weight-mode inverse, or proportional to keep it'), [ 'connbal globals set --weight-mode inverse' ]);
	assert.deepEqual(of('connbal interface set w --add flush_conntrack=disconnected --add flush_conntrack=ifdown makes them go'),
		[ 'connbal interface set w --add flush_conntrack=disconnected --add flush_conntrack=ifdown' ]);
	assert.deepEqual(of('all of them use P, so it can go: connbal rule delete @rule[3]'), [ 'connbal rule delete @rule[3]' ]);
	assert.deepEqual(of('give it a weight'), []);
	assert.deepEqual(of('connbal apply'), [ 'connbal apply' ]);

	for (const bad of [ '$(reboot)', '`reboot`', 'a;reboot', 'a|b', 'a&b', '"a"', "'a'", 'a\\b', 'a>b', '~root', 'a*', 'a\nreboot', '!x', '#', 'é' ])
		assert.deepEqual(of('connbal interface set wan --remove track_ip=' + bad), [], bad);
});

test('policies: families without members are left out', async () => {
	const model = await load('model'), policy = make.policy;
	const of = (...list) => model.policies({ policies: list });

	assert.deepEqual(of(policy('p', [ [ 'wan', 100 ] ]), policy('p', [], { family: 'ipv6' }))[0].tiers.map(tier => tier.family), [ 'ipv4' ]);
	assert.deepEqual(of(policy('p', []), policy('p', [], { family: 'ipv6' }))[0].tiers, [ { family: 'any', reason: 'no member can be used', shares: [] } ]);
	assert.equal(of(policy('p', []), policy('p', [], { family: 'ipv6', reason: 'other' }))[0].tiers.length, 2);
	assert.deepEqual(of(policy('__proto__', [ [ 'wan', 100 ] ])).map(one => one.name), [ '__proto__' ]);
});

test('rules with what is known of them', async () => {
	const model = await load('model');
	const all = model.rules(make.usual().list, make.status());

	assert.deepEqual(all.map(one => [ one.reference, one.packets ]), [ [ 'SmartTV', 3 ], [ '@rule[1]', null ], [ 'All_Traffic', null ] ]);
	const live = [ 'SmartTV', 'cfg0b92bd', 'All_Traffic' ].map((name, packets) => ({ name, policy: '', families: [ 'ipv4' ], reason: '', packets }));
	assert.deepEqual(model.rules(make.usual().list, make.status({ rules: live })).map(one => one.packets), [ 0, 1, 2 ]);
	assert.equal(all[1].label, 'rule 2, without a name');
	assert.equal(model.rules(make.usual().list, null).length, 3);
	assert.ok(model.sameRules(make.usual().list, make.usual().list));
	assert.ok(!model.sameRules(make.usual().list, make.rules()));
});

/* What `connbal rule move` does with its arguments, on a list of names. */
function moved(names, what) {
	const rest = names.filter(name => name != what.name), at = names.indexOf(what.name);
	const to = {
		first: 0, last: rest.length, up: at - 1, down: at + 1, before: rest.indexOf(what.other), after: rest.indexOf(what.other) + 1
	}[what.place];

	rest.splice(to, 0, what.name);
	return rest;
}

test('every drag ends where it was dropped', async () => {
	const model = await load('model');

	for (let count = 1; count <= 6; count++) {
		const shown = Array.from({ length: count }, (_, index) => ({ reference: 'r' + index }));
		const names = shown.map(one => one.reference);

		for (let from = 0; from < count; from++)
			for (let gap = 0; gap <= count; gap++) {
				const to = model.dropIndex(from, gap), what = model.move(shown, from, to);
				const wanted = names.filter((_, index) => index != from);

				wanted.splice(to, 0, names[from]);

				/* Dropped above or below itself, it stays. */
				assert.equal(what == null, gap == from || gap == from + 1);
				if (what)
					assert.deepEqual(moved(names, what), wanted, `${count} ${from} ${gap}`);
			}
	}

	assert.equal(model.move([ { reference: 'a' } ], 0, 1), null);
	assert.equal(model.move([ { reference: 'a' } ], 0, -1), null);
});

test('questions leave out what is empty', async () => {
	const model = await load('model');

	assert.deepEqual(model.question({ src: ' 1.2.3.4 ', dst: '', proto: 'tcp', other: 'x' }), { src: '1.2.3.4', proto: 'tcp' });
});

test('scenarios: fields as options', async () => {
	const model = await load('model');

	assert.deepEqual(model.setup('device', { ip: '1.2.3.4', mac: '', use: 'wan2', then: 'wan1', others: 'wan1', name: 'TV' }).options,
		{ name: 'TV', ip: '1.2.3.4', use: [ 'wan2', 'wan1' ], 'else': [ 'wan1' ] });
	assert.deepEqual(model.setup('failover', { interfaces: [ 'a', '', 'b' ], name: '' }).options, { interfaces: [ 'a', 'b' ] });

	const split = model.setup('split', { shares: { a: '2', b: ' 1 ', c: '0', d: '' }, affinity: 'pair' }).options;

	assert.deepEqual(Object.assign({}, split, { shares: Object.assign({}, split.shares) }), { shares: { a: 2, b: 1 }, affinity: 'pair' });

	for (const [ scenario, fields ] of [
		[ 'device', { use: 'a' } ], [ 'device', { ip: '1.2.3.4' } ], [ 'device', { ip: '1.2.3.4', use: 'a', then: 'a' } ],
		[ 'device', { ip: '1.2.3.4', then: 'a' } ],
		[ 'failover', { interfaces: [ 'a', '' ] } ], [ 'failover', { interfaces: [ 'a', 'a' ] } ],
		[ 'split', { shares: { a: '1' } } ], [ 'split', { shares: { a: '1', b: '-1' } } ], [ 'split', { shares: { a: '1', b: '1e3' } } ]
	])
		assert.ok(model.setup(scenario, fields).error, JSON.stringify(fields));
});

test('edits and plans in words', async () => {
	const model = await load('model'), edit = make.edit;
	const member = (name, percent) => ({ interface: name, metric: 1, weight: 1, percent });

	assert.equal(model.plan({ rule: 'r', policy: 'p', members: [ member('a', 66.667), member('b', 33.333) ] }), 'Rule r, policy p: a 66.7 %, b 33.3 %');
	assert.equal(model.plan({ rule: 'r', policy: 'p', members: [ member('a', 100), member('b', 0) ] }), 'Rule r, policy p: a, while it is down b');
	assert.deepEqual(model.outcome(edit({ notes: [ 'n' ] })), { kind: 'good', lines: [ 'Written and applied.', 'n' ] });
	assert.equal(model.outcome(edit({ changed: false, applied: null })).kind, 'good');
	assert.equal(model.outcome(edit({ applied: { by: 'nobody', changes: [], reason: 'stopped' } })).kind, 'waiting');
	assert.equal(model.outcome(edit({ applied: null, error: 'refused' })).kind, 'bad');
});

test('answers that are none', async () => {
	const api = await load('api');
	const document = { schema: 'status/1' };

	assert.equal(api.checked('status', document), document);
	assert.throws(() => api.checked('status', { schema: 'error/1', error: 'no such rule' }), /^Error: no such rule$/);
	assert.throws(() => api.checked('status', 6), /Permission denied/);
	for (const strange of [ null, undefined, 'text', {}, { schema: 'status/2' }, { schema: 'check/1' }, [] ])
		assert.throws(() => api.checked('status', strange), /does not understand/);
});
