'use strict';

/* The page in a world of values: answers of `connbal` that a test makes up. */

const fs = require('node:fs');
const path = require('node:path');
const { makeLuCI } = require('../runtime.js');
const { makeDocument } = require('./document.js');

const RESOURCES = path.join(__dirname, '../../../openwrt/luci-app-connbal/htdocs/luci-static/resources');

/* answers: by method, a document or a function of the arguments that returns one; an Error is thrown. */
exports.world = function(answers, options = {}) {
	const document = makeDocument();
	const calls = [];
	const luci = makeLuCI({
		document,
		window: { navigator: {}, isSecureContext: false },
		permission: options.permission === undefined ? true : options.permission,
		translate: options.translate,
		read: name => fs.promises.readFile(path.join(RESOURCES, name), 'utf8'),
		ubus: async (object, method, args) => {
			calls.push({ object, method, args });
			const found = typeof(answers[method]) == 'function' ? await answers[method](args) : answers[method];
			if (found instanceof Error)
				throw found;
			return (typeof(found) == 'number') ? { code: found } : { answer: found };
		}
	});

	return { luci, document, calls, answers, module: name => luci.require('connbal.' + name) };
};

exports.open = async function(answers, options) {
	const one = exports.world(answers, options);
	const view = await one.luci.require('view.connbal.overview');

	one.view = view;
	one.root = view.render(await view.load());
	one.document.body.appendChild(one.root);
	/* What nothing waits for comes a little later. */
	one.later = () => new Promise(resolve => setTimeout(resolve, 20));
	one.poll = async () => { await one.luci.polls[0].run(); await one.later(); };
	await one.later();

	return one;
};

exports.resources = RESOURCES;

/* --- documents --- */

exports.source = (name, more = {}) => Object.assign({
	name, id: 1, family: 'ipv4', enabled: true, device: 'e-' + name, up: true, present: true, reason: 'it has a default route',
	tracker: {
		status: 'online', online: true, reason: '1 of 1 hosts answers', enabled: true, tracked: true, running: true, forced: null,
		device: 'e-' + name, score: 10, top: 10, lost: 0, turn: 3, since: 3725, round: 1,
		hosts: [ { host: '1.1.1.1', state: 'up', latency: 12.34, loss: 0, fault: '' } ]
	}
}, more);

exports.policy = (policy, members, more = {}) => Object.assign({
	policy, family: 'ipv4', metric: members.length ? 1 : null, affinity: 'pair', last_resort: 'unreachable',
	reason: members.length ? 'all of metric 1 are up' : 'no member can be used',
	members: members.map(([ name, percent ]) => ({ member: 'm_' + name, interface: name, weight: 1, percent }))
}, more);

exports.rule = (number, name, options, more = {}) => Object.assign({
	name, reference: name || '@rule[' + (number - 1) + ']', number, enabled: true, policy: options.use_policy || '', options
}, more);

exports.status = (more = {}) => Object.assign({
	schema: 'status/1', applied: true, daemon: { pid: 7, since: 60, reconciles: { count: 1, last: null, errors: 0 } },
	interfaces: [ exports.source('wan1'), exports.source('wan2', { id: 2 }) ],
	policies: [ exports.policy('TV_Policy', [ [ 'wan2', 100 ] ]), exports.policy('All_Policy', [ [ 'wan1', 66.667 ], [ 'wan2', 33.333 ] ]) ],
	rules: [ { name: 'SmartTV', policy: 'TV_Policy', families: [ 'ipv4' ], reason: '', packets: 3, bytes: 180 } ],
	findings: []
}, more);

exports.rules = (...list) => ({ schema: 'rule-list/1', rules: list });
exports.edit = (more = {}) => Object.assign({
	schema: 'edit/1', mode: 'commit', changed: true, changes: [], notes: [], findings: [],
	applied: { by: 'daemon', changes: [], reason: '' }, error: null
}, more);

exports.usual = (more = {}) => Object.assign({
	status: exports.status(),
	list: exports.rules(
		exports.rule(1, 'SmartTV', { src_ip: '192.168.1.178', use_policy: 'TV_Policy' }),
		exports.rule(2, null, { proto: 'tcp', dest_port: '443', use_policy: 'All_Policy' }),
		exports.rule(3, 'All_Traffic', { dest_ip: '0.0.0.0/0', use_policy: 'All_Policy' })),
	check: { schema: 'check/1', findings: [] },
	move: exports.edit(), set: exports.edit(), delete: exports.edit()
}, more);
