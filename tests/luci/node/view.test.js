'use strict';

const test = require('node:test');
const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const make = require('./page.js');

const byRule = (one, name) => one.root.find(node => node.getAttribute('data-rule') === name);
const control = (one, name, what) => byRule(one, name).find(node => node.getAttribute('data-what') === what);
const text = (one, id) => one.root.byId(id).textContent;
const changes = one => one.calls.filter(call => ![ 'status', 'list', 'check' ].includes(call.method));

test('it shows sources, shares and rules, and asks nobody but connbal', async () => {
	const one = await make.open(make.usual());

	assert.match(text(one, 'connbal-source-list'), /wan1online.*for 1 h 2 min.*1 of 1 hosts answers.*1\.1\.1\.1 answers, 12 ms, 0 % lost/);
	assert.match(text(one, 'connbal-policy-list'), /All_Policy.*wan166\.7 %wan233\.3 %/);
	assert.match(text(one, 'connbal-rule-list'), /SmartTV.*TV_Policy.*from 192\.168\.1\.178.*connections so far: 3/);
	assert.match(text(one, 'connbal-finding-list'), /Nothing was found/);
	assert.equal(text(one, 'connbal-banner'), '');
	assert.ok(one.calls.every(call => call.object == 'connbal'));
	assert.equal(one.luci.polls.length, 1);
	assert.ok(one.view.handleSave === null && one.view.handleSaveApply === null && one.view.handleReset === null);
});

test('buttons and keys move rules', async () => {
	const one = await make.open(make.usual());

	await control(one, 'SmartTV', 'down').click();
	await control(one, 'All_Traffic', 'handle').fire('keydown', { key: 'ArrowUp' });
	await control(one, 'All_Traffic', 'handle').fire('keydown', { key: 'x' });
	await control(one, 'SmartTV', 'up').click();
	assert.deepEqual(changes(one).map(call => [ call.method, call.args ]), [
		[ 'move', { name: 'SmartTV', place: 'down' } ], [ 'move', { name: 'All_Traffic', place: 'up' } ]
	]);
	assert.match(text(one, 'connbal-rules'), /All_Traffic is now number 2\. Written and applied\./);
	await control(one, 'All_Traffic', 'handle').fire('keydown', { key: 'Home' });
	await control(one, 'SmartTV', 'handle').fire('keydown', { key: 'End' });
	assert.deepEqual(changes(one).slice(2).map(call => call.args), [ { name: 'All_Traffic', place: 'first' }, { name: 'SmartTV', place: 'last' } ]);
});

test('a drag moves a rule, and a poll meanwhile leaves the list alone', async () => {
	const answers = make.usual(), one = await make.open(answers);
	const first = byRule(one, 'SmartTV'), last = byRule(one, 'All_Traffic');

	await control(one, 'SmartTV', 'handle').fire('dragstart');
	await last.fire('dragover', { clientY: 9 });
	answers.status = make.status({ rules: [ { name: 'SmartTV', policy: 'TV_Policy', families: [ 'ipv4' ], reason: '', packets: 99, bytes: 1 } ] });
	await one.poll();
	assert.equal(byRule(one, 'SmartTV'), first);
	assert.ok(last.classList.contains('connbal-below'));
	await last.fire('drop');
	await one.later();
	assert.deepEqual(changes(one).map(call => call.args), [ { name: 'SmartTV', place: 'last' } ]);
	assert.match(byRule(one, 'SmartTV').textContent, /connections so far: 99/);
});

test('a drag that is given up changes nothing', async () => {
	const one = await make.open(make.usual());

	await control(one, 'SmartTV', 'handle').fire('dragstart');
	await byRule(one, 'All_Traffic').fire('dragover', { clientY: 9 });
	await control(one, 'SmartTV', 'handle').fire('dragend');
	await byRule(one, 'All_Traffic').fire('drop');
	assert.deepEqual(changes(one), []);
	assert.ok(!byRule(one, 'SmartTV').classList.contains('connbal-dragged'));
});

test('nothing is done to rules that somebody else has changed', async () => {
	const answers = make.usual(), one = await make.open(answers);

	answers.list = make.rules(...make.usual().list.rules.slice(1));
	await control(one, '@rule[1]', 'up').click();
	assert.deepEqual(changes(one), []);
	assert.match(text(one, 'connbal-rules'), /Somebody else has changed/);
	assert.equal(byRule(one, 'SmartTV'), null);
});

test('the focus stays on what was used', async () => {
	const answers = make.usual(), one = await make.open(answers);
	const [ tv, web, all ] = answers.list.rules;

	answers.move = () => {
		answers.list = make.rules({ ...tv, number: 1 }, { ...all, number: 2 }, { ...web, number: 3, reference: '@rule[2]' });
		return make.edit();
	};
	control(one, '@rule[1]', 'down').focus();
	await control(one, '@rule[1]', 'down').click();
	/* It is the last one now: its button for down is off, so the handle has the focus. */
	assert.equal(one.document.activeElement, control(one, '@rule[2]', 'handle'));
});

test('disable, enable, and delete after a question', async () => {
	const answers = make.usual(), one = await make.open(answers);

	await control(one, 'SmartTV', 'toggle').click();
	answers.list = make.rules({ ...answers.list.rules[0], enabled: false });
	await one.poll();
	assert.match(byRule(one, 'SmartTV').textContent, /disabled.*Enable/);
	await control(one, 'SmartTV', 'toggle').click();
	await control(one, 'SmartTV', 'delete').click();
	assert.equal(changes(one).length, 2);
	await one.document.body.find(node => node.textContent == 'Cancel').click();
	assert.equal(one.document.body.byId('connbal-really-delete'), null);
	await control(one, 'SmartTV', 'delete').click();
	await one.document.body.byId('connbal-really-delete').click();
	await one.later();
	assert.deepEqual(changes(one).map(call => [ call.method, call.args ]), [
		[ 'set', { type: 'rule', name: 'SmartTV', options: { enabled: '0' } } ],
		[ 'set', { type: 'rule', name: 'SmartTV', options: { enabled: '1' } } ],
		[ 'delete', { type: 'rule', name: 'SmartTV' } ]
	]);
});

test('errors are told, and the page goes on', async () => {
	const answers = make.usual(), one = await make.open(answers);

	answers.move = { schema: 'error/1', error: 'the file is locked', code: 'busy' };
	await control(one, 'SmartTV', 'down').click();
	assert.match(text(one, 'connbal-rules'), /the file is locked/);
	answers.status = new Error('Connection lost');
	await one.poll();
	assert.match(text(one, 'connbal-banner'), /may be out of date\. Connection lost/);
	assert.match(text(one, 'connbal-source-list'), /wan1/);
	answers.status = make.status();
	await one.poll();
	assert.equal(text(one, 'connbal-banner'), '');
});

test('it opens even where everything fails', async () => {
	const one = await make.open({ status: 4, list: { schema: 'error/1', error: 'line 3 makes no sense' }, check: new Error('no') });

	assert.match(text(one, 'connbal-banner'), /does not know connbal/);
	assert.match(text(one, 'connbal-finding-list'), /no/);
});

test('no daemon, not applied', async () => {
	const answers = make.usual({ status: make.status({ daemon: null, applied: false }), apply: { schema: 'apply/1', changes: [], findings: [] } });
	const one = await make.open(answers);

	assert.match(text(one, 'connbal-banner'), /daemon does not run.*not applied/);
	await one.root.byId('connbal-apply').click();
	assert.deepEqual(changes(one).map(call => call.method), [ 'apply' ]);
});

test('read-only users can look and ask, and change nothing', async () => {
	const one = await make.open(make.usual({ explain: { schema: 'error/1', error: 'asked' } }), { permission: false });
	const free = [ ...one.root.all() ].filter(node => node.tagName == 'BUTTON' && !node.disabled).map(node => node.textContent);

	assert.deepEqual(free, [ 'Explain' ]);
	assert.match(text(one, 'connbal-banner'), /not change anything/);
	await control(one, 'SmartTV', 'handle').fire('keydown', { key: 'ArrowDown' });
	await control(one, 'SmartTV', 'handle').fire('dragstart');
	await byRule(one, 'All_Traffic').fire('drop');
	await control(one, 'SmartTV', 'down').click();
	assert.deepEqual(changes(one), []);
	one.root.byId('connbal-src').value = '1.2.3.4';
	one.root.byId('connbal-dst').value = '5.6.7.8';
	await one.root.byId('connbal-explain').find(node => node.tagName == 'FORM').fire('submit');
	assert.equal(text(one, 'connbal-story'), 'asked');
});

test('a preview that no longer fits its form is forgotten', async () => {
	const answers = make.usual({ setup: args => make.edit({ mode: 'dry-run', applied: null, changes: [ '+ x' ], rules: [] }) });
	const one = await make.open(answers);
	const box = one.root.byId('connbal-failover'), form = box.find(node => node.tagName == 'FORM'), apply = one.root.byId('connbal-failover-apply');

	await form.fire('submit');
	assert.match(box.textContent, /at least two sources/);
	one.root.byId('connbal-failover-1').value = 'wan2';
	one.root.byId('connbal-failover-2').value = 'wan1';
	await form.fire('submit');
	assert.ok(!apply.disabled);
	await form.fire('input');
	assert.ok(apply.disabled);
	await form.fire('submit');
	await apply.click();
	assert.deepEqual(changes(one).map(call => call.args.dry_run), [ true, true, false ]);
	assert.deepEqual(changes(one)[2].args.options, { interfaces: [ 'wan2', 'wan1' ] });
});

test('a poll leaves a form in use alone', async () => {
	const answers = make.usual(), one = await make.open(answers);
	const use = one.root.byId('connbal-device-use'), count = () => use.childNodes.length;

	use.focus();
	answers.status = make.status({ interfaces: [ make.source('wan1') ] });
	await one.poll();
	assert.equal(count(), 3);
	one.document.activeElement = null;
	await one.poll();
	assert.equal(count(), 2);
});

test('nothing waits for check', async () => {
	let answer;
	const one = await make.open(make.usual({ check: () => new Promise(resolve => { answer = resolve; }) }));

	assert.match(text(one, 'connbal-finding-list'), /Looking/);
	await one.poll();
	assert.match(text(one, 'connbal-finding-list'), /Looking/);
	answer({ schema: 'check/1', findings: [] });
	await one.later();
	assert.match(text(one, 'connbal-finding-list'), /Nothing was found/);
});

test('check is asked at the start, after changes and now and then', async () => {
	const one = await make.open(make.usual());
	const checks = () => one.calls.filter(call => call.method == 'check').length;

	for (let i = 0; i < 10; i++)
		await one.poll();
	assert.equal(checks(), 1);
	await one.poll();
	await one.poll();
	assert.equal(checks(), 2);
	one.document.hidden = true;
	const before = one.calls.length;
	await one.poll();
	assert.equal(one.calls.length, before);
});

test('hostile texts stay texts', async () => {
	/* The stand-in of a document throws where anything is written as HTML. */
	const bad = '<img src=x onerror=alert(1)>';
	const answers = make.usual({
		status: make.status({
			interfaces: [ make.source(bad, { reason: bad, device: bad, family: bad, tracker: { ...make.source('x').tracker, status: bad, reason: bad,
				hosts: [ { host: bad, state: 'down', latency: null, loss: null, fault: bad } ] } }) ],
			policies: [ make.policy(bad, [ [ bad, 100 ] ], { reason: bad }) ],
			daemon: { pid: 1, since: 1, reconciles: { count: 1, last: { error: bad } } }
		}),
		list: make.rules(make.rule(1, bad, { src_ip: bad, use_policy: bad })),
		check: { schema: 'check/1', findings: [ { severity: bad, code: bad, place: bad, message: bad, remedy: bad } ] },
		delete: { schema: 'error/1', error: bad }
	});
	const one = await make.open(answers);

	await control(one, bad, 'delete').click();
	assert.match(one.document.body.textContent, /Delete <img src=x onerror=alert\(1\)> \(from <img/);
	await one.document.body.byId('connbal-really-delete').click();
	await one.later();
	assert.ok(text(one, 'connbal-rules').includes(bad));
	for (const id of [ 'connbal-source-list', 'connbal-policy-list', 'connbal-rule-list', 'connbal-finding-list', 'connbal-banner' ])
		assert.ok(text(one, id).includes(bad), id);
});

test('every control has a name', async () => {
	const one = await make.open(make.usual());
	const labels = new Set([ ...one.root.all() ].filter(node => node.tagName == 'LABEL').map(node => node.getAttribute('for')));

	for (const node of one.root.all()) {
		if ([ 'INPUT', 'SELECT' ].includes(node.tagName))
			assert.ok(labels.has(node.getAttribute('id')), node.getAttribute('id'));
		if (node.tagName == 'BUTTON' || node.getAttribute('role') == 'button')
			assert.ok(node.getAttribute('aria-label') || node.textContent);
	}

	const ids = [ ...one.root.all() ].map(node => node.getAttribute('id')).filter(Boolean);
	assert.equal(ids.length, new Set(ids).size);
});

test('a press while another change is under way is answered, and a change is told when the next may follow', async () => {
	let go;
	const one = await make.open(make.usual({ set: () => new Promise(resolve => { go = () => resolve(make.edit()); }) }));
	const first = control(one, 'SmartTV', 'toggle').click();

	await one.later();
	await control(one, 'All_Traffic', 'toggle').click();
	assert.match(text(one, 'connbal-rules'), /still under way/);
	go();
	await first;
	assert.match(text(one, 'connbal-rules'), /SmartTV is now disabled/);
	assert.equal(changes(one).length, 1);
	await control(one, 'SmartTV', 'down').click();
	assert.equal(changes(one).length, 2);
});

test('counters change without a new list, so that no press of a button is lost', async () => {
	const one = await make.open(make.usual());
	const list = one.document.body.byId('connbal-rule-list'), rows = [ ...list.childNodes ];

	one.answers.status = make.status({ rules: [ { name: 'SmartTV', policy: 'TV_Policy', families: [], reason: 'wan2 is down', packets: 41, bytes: 1 } ] });
	await one.poll();
	assert.match(rows[0].textContent, /not in use: wan2 is down, connections so far: 41/);
	assert.deepEqual([ ...list.childNodes ], rows);

	one.answers.list = make.rules(make.rule(1, 'Other', { use_policy: 'TV_Policy' }));
	await one.poll();
	assert.match(list.textContent, /Other/);
	assert.equal(list.childNodes.length, 1);
});

test('60 sources and 200 rules cost no more calls than two of each', async () => {
	const names = [ ...Array(60).keys() ].map(n => 'wan' + n);
	const list = [ ...Array(200).keys() ].map(n => make.rule(n + 1, 'r' + n, { src_ip: '192.168.1.' + n, use_policy: 'p' }));
	const one = await make.open(make.usual({
		status: make.status({ interfaces: names.map(name => make.source(name)), policies: [ make.policy('p', names.map(name => [ name, 100 / 60 ])) ], rules: [] }),
		list: make.rules(...list)
	}));
	const methods = () => one.calls.splice(0).map(call => call.method);

	assert.equal(one.document.body.byId('connbal-source-list').childNodes.length, 60);
	assert.equal(one.document.body.byId('connbal-rule-list').childNodes.length, 200);
	assert.deepEqual(methods(), [ 'status', 'list', 'check' ]);
	await one.poll();
	assert.deepEqual(methods(), [ 'status', 'list' ]);
	await control(one, 'r150', 'handle').fire('keydown', { key: 'Home' });
	await one.later();
	assert.deepEqual(methods(), [ 'list', 'move', 'check', 'status', 'list' ]);
});

test('a source may have any name that UCI allows', async () => {
	const names = [ 'constructor', '__proto__', 'toString', 'wan1' ];
	const one = await make.open(make.usual({
		status: make.status({ interfaces: names.map(name => make.source(name)) }),
		setup: args => make.edit({ mode: 'dry-run', applied: null, changes: [ '+ x' ], rules: [] })
	}));

	names.forEach((name, index) => { one.root.byId('connbal-split-share-' + (index + 1)).value = String(index + 1); });
	await one.root.byId('connbal-split').find(node => node.tagName == 'FORM').fire('submit');
	await one.later();

	const [ call ] = changes(one);

	assert.equal(JSON.stringify(call.args.options.shares), '{"constructor":1,"__proto__":2,"toString":3,"wan1":4}');
});

/* The strings of _() in the sources, and those of the template for translators. */
test('the template for translations has every text', () => {
	const found = new Set();
	const scan = folder => fs.readdirSync(folder, { withFileTypes: true }).forEach(entry => {
		const file = path.join(folder, entry.name);
		if (entry.isDirectory())
			return scan(file);
		if (file.endsWith('.js'))
			for (const match of fs.readFileSync(file, 'utf8').matchAll(/\b_\('((?:[^'\\]|\\.)*)'\)/g))
				found.add(match[1]);
	});

	scan(make.resources);
	/* LuCI's translations begin and end without white space. */
	assert.deepEqual([ ...found ].filter(text => text != text.trim()), []);
	found.add('Connection Balancing');
	found.add('Grant access to Connection Balancing');

	const template = path.join(make.resources, '../../../po/templates/connbal.pot');

	if (process.env.CONNBAL_POT == 'accept')
		fs.writeFileSync(template, 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8"\n' +
			[ ...found ].sort().map(text => `\nmsgid ${JSON.stringify(text)}\nmsgstr ""\n`).join(''));

	const told = new Set([ ...fs.readFileSync(template, 'utf8').matchAll(/^msgid (".+")$/gm) ].map(match => JSON.parse(match[1])));
	assert.deepEqual([ ...told ].sort(), [ ...found ].sort());
});

const waits = (left, more = {}) => make.status({ waiting: Object.assign({
	left, seconds: 90, until: '2026-12-01T12:30:15+0100', who: 'process 7', what: [ 'added rule New' ]
}, more) });

test('a change that waits is shown with what is left, and kept or taken back', async () => {
	const answers = make.usual(), one = await make.open(answers);
	const box = one.root.byId('connbal-waiting');

	assert.equal(box.hidden, true);
	answers.status = waits(42.4);
	await one.poll();
	assert.equal(box.hidden, false);
	assert.match(box.textContent, /goes back by itself, unless it is kept.*42 s left.*added rule New/);
	answers.confirm = { schema: 'confirm/1', done: 'kept', what: [ 'added rule New' ], waiting: null, last: null };
	answers.status = make.status({ waiting: null });
	await one.root.byId('connbal-keep').click();
	await one.later();
	assert.deepEqual(changes(one).map(call => [ call.method, call.args ]), [ [ 'confirm', { revert: false } ] ]);
	assert.match(one.root.textContent, /The change is kept\./);
	assert.equal(box.hidden, true);

	answers.status = waits(0);
	await one.poll();
	assert.match(box.textContent, /It is going back now/);
	answers.confirm = { schema: 'error/1', error: 'no change waits for its confirmation', code: 'waiting' };
	await one.root.byId('connbal-take-back').click();
	await one.later();
	assert.deepEqual(changes(one)[1].args, { revert: true });
	assert.match(one.root.textContent, /no change waits for its confirmation/);
});

test('changes of the page go back by themselves where that is chosen, and join the one that waits', async () => {
	const answers = make.usual(), one = await make.open(answers);
	const choice = one.root.byId('connbal-go-back');

	await control(one, 'SmartTV', 'down').click();
	choice.value = '30';
	await choice.fire('change');
	await control(one, 'SmartTV', 'down').click();
	choice.value = '';
	await choice.fire('change');
	answers.status = waits(60);
	await one.poll();
	await control(one, 'SmartTV', 'down').click();
	assert.deepEqual(changes(one).map(call => call.args.confirm), [ undefined, 30, 90 ]);
});

test('who may only look can neither keep nor take back', async () => {
	const answers = make.usual();

	answers.status = waits(42);
	const one = await make.open(answers, { permission: false });

	assert.ok([ 'connbal-keep', 'connbal-take-back', 'connbal-go-back' ].every(id => one.root.byId(id).disabled));
});
