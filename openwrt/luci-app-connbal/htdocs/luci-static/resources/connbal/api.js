'use strict';
'require baseclass';
'require rpc';
'require connbal.words as words';

/* The ubus object `connbal`. Each call resolves to a document, or rejects with an Error whose message is for people. */

/* alone: in a request of its own, so that other answers do not wait for this one. */
function declare(method, params, alone) {
	return rpc.declare({ object: 'connbal', method: method, params: params || [], nobatch: !!alone });
}

const calls = {
	status: declare('status'),
	list: declare('list', [ 'type' ]),
	check: declare('check', [], true),
	explain: declare('explain', [ 'src', 'dst', 'proto', 'dport', 'sport', 'iif', 'mac' ]),
	set: declare('set', [ 'type', 'name', 'options', 'confirm' ]),
	move: declare('move', [ 'name', 'place', 'other', 'confirm' ]),
	'delete': declare('delete', [ 'type', 'name', 'confirm' ]),
	setup: declare('setup', [ 'scenario', 'options', 'dry_run', 'confirm' ]),
	apply: declare('apply', [ 'confirm' ]),
	confirm: declare('confirm', [ 'revert' ])
};

/* Seconds after which changes go back by themselves, 0: never; and those of a change that waits, which others join. */
let back = 0, joined = 0;

function confirm() {
	return back || joined || undefined;
}

/* What the router said: a document of the form that was asked for, and nothing else. */
function checked(form, answer) {
	if (typeof(answer) == 'number')
		throw new Error(words.fill(_('The router refused the request: %s.'), rpc.getStatusText(answer)));

	const schema = (answer && typeof(answer) == 'object') ? String(answer.schema || '') : '';

	if (schema.indexOf('error/') == 0)
		throw new Error(String(answer.error));
	if (schema != form + '/1')
		throw new Error(words.fill(_('The router gave an answer that this page does not understand: %s.'), schema || typeof(answer)));

	return answer;
}

/* LuCI tells in numbers of JSON-RPC that a call was not made at all. */
function refused(error) {
	if (/-32002\b/.test(error.message))
		throw new Error(_('Your session may not do this, or it has ended: log in again.'));
	if (/-32000\b/.test(error.message))
		throw new Error(_('The router does not know connbal. Is it installed? If so: /etc/init.d/rpcd restart'));

	throw error;
}

function ask(form, method) {
	const args = Array.prototype.slice.call(arguments, 2);

	return Promise.resolve(calls[method].apply(calls, args)).then(checked.bind(null, form), refused);
}

return baseclass.extend({
	status: function() { return ask('status', 'status'); },
	ruleList: function() { return ask('rule-list', 'list', 'rule'); },
	check: function() { return ask('check', 'check'); },
	explain: function(q) { return ask('explain', 'explain', q.src, q.dst, q.proto, q.dport, q.sport, q.iif, q.mac); },
	enable: function(name, on) { return ask('edit', 'set', 'rule', name, { enabled: on ? '1' : '0' }, confirm()); },
	move: function(what) { return ask('edit', 'move', what.name, what.place, what.other == null ? undefined : what.other, confirm()); },
	remove: function(name) { return ask('edit', 'delete', 'rule', name, confirm()); },
	setup: function(scenario, options, dry) { return ask('edit', 'setup', scenario, options, dry, dry ? undefined : confirm()); },
	apply: function() { return ask('apply', 'apply', confirm()); },
	confirm: function(revert) { return ask('confirm', 'confirm', revert); },
	goBack: function(seconds) { back = seconds; },
	joins: function(seconds) { joined = seconds; },
	checked: checked
});
