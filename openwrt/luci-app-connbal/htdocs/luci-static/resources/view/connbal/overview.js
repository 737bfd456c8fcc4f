'use strict';
'require view';
'require poll';
'require connbal.api as api';
'require connbal.dom as dom';
'require connbal.sources as sources';
'require connbal.rules as rules';
'require connbal.explain as explain';
'require connbal.findings as findings';
'require connbal.scenarios as scenarios';
'require connbal.waiting as waiting';

/* The page "Connection Balancing". It talks to the ubus object `connbal` only. */

const el = dom.el;
const SECONDS = 5;
/* `check` reads everything and takes longest, so nothing waits for it. It is asked at the start, after changes, and
 * with each twelfth look. */
const LOOKS_PER_CHECK = 12;

/* Resolves to { doc } or { error }: one answer that is missing does not keep the page from showing the others. */
function settled(promise) {
	return promise.then(function(doc) { return { doc: doc }; }, function(error) { return { error: error }; });
}

function look() {
	return Promise.all([ settled(api.status()), settled(api.ruleList()) ]);
}

/* Links to the sections: with many sources and rules the last ones are far down. */
function jump() {
	return el('nav', { 'class': 'connbal-jump', 'aria-label': _('On this page') }, [
		[ 'sources', _('Internet sources') ], [ 'policies', _('Shares') ], [ 'rules', _('Rules') ],
		[ 'findings', _('Findings') ], [ 'explain', _('Explain a connection') ], [ 'scenarios', _('Set up') ]
	].map(function(one) {
		return el('a', { 'href': '#connbal-' + one[0] }, one[1]);
	}));
}

/* The page's state: its parts, and what was heard last. */
function build(readonly) {
	const banner = el('div', { 'class': 'connbal-banner', 'id': 'connbal-banner', 'role': 'status', 'aria-live': 'polite' });
	let looks = 0, heard = 0, told = null, checks = 0, checked = null, status = null;

	const page = {
		readonly: readonly,
		/* Look again, after a change. */
		refresh: function() { return again(true); }
	};
	const parts = {
		sources: sources.create(), rules: rules.create(page), explain: explain.create(),
		findings: findings.create(), scenarios: scenarios.create(page), waiting: waiting.create(page)
	};
	const apply = dom.button('apply', _('Apply'), { 'id': 'connbal-apply', 'disabled': readonly ? '' : null });

	apply.addEventListener('click', function() {
		apply.disabled = true;

		return api.apply().then(function() { return page.refresh(); }, function(error) {
			told = null;
			dom.refill(banner, box('bad', error.message));
		}).then(function() { apply.disabled = readonly; });
	});

	function box(kind) {
		return el('div', { 'class': 'connbal-box connbal-' + kind }, Array.prototype.slice.call(arguments, 1));
	}

	function tell(seen, list) {
		const boxes = [];
		const failed = seen.error || list.error;

		if (failed)
			boxes.push([ 'bad', _('What is shown may be out of date.') + ' ' + failed.message ]);
		if (seen.doc && !seen.doc.daemon)
			boxes.push([ 'bad', _('The daemon does not run: no source is tested, and each counts as up while its network is. Start it: /etc/init.d/connbal start') ]);
		if (seen.doc && seen.doc.daemon && seen.doc.daemon.reconciles.last && seen.doc.daemon.reconciles.last.error)
			boxes.push([ 'bad', _('The daemon could not apply the configuration:') + ' ' + seen.doc.daemon.reconciles.last.error ]);
		if (seen.doc && !seen.doc.applied)
			boxes.push([ 'waiting', _('The configuration is not applied: this is how it would be.'), ' ', apply ]);
		if (readonly)
			boxes.push([ 'off', _('You may look, but not change anything.') ]);

		/* Written anew only where it says something else: screen readers read it out each time. */
		const text = JSON.stringify(boxes.map(function(one) { return one.slice(0, 2); }));

		if (text !== told) {
			told = text;
			dom.refill(banner, boxes.map(function(one) { return box.apply(null, one); }));
		}
	}

	function update(answers) {
		const seen = answers[0], list = answers[1];

		status = seen.doc || status;
		tell(seen, list);

		if (seen.doc) {
			parts.waiting.update(seen.doc);
			parts.sources.update(seen.doc);
			parts.scenarios.update(seen.doc);
		}
		if (list.doc)
			parts.rules.update(list.doc, status);
		if (checked)
			parts.findings.update([ checked, status ? status.findings : [] ]);
	}

	function examine() {
		const number = ++checks;

		return settled(api.check()).then(function(answer) {
			if (number != checks)
				return;

			checked = answer.doc ? answer.doc.findings : null;

			if (checked)
				parts.findings.update([ checked, status ? status.findings : [] ]);
			else
				parts.findings.fail(answer.error);
		});
	}

	/* An answer that is overtaken by a later one is dropped. */
	function again(check) {
		const number = ++looks;

		if (check)
			examine();

		return look().then(function(answers) {
			if (number > heard) {
				heard = number;
				update(answers);
			}
		});
	}

	return {
		/* Shows the first answers, and asks for what they leave out. */
		begin: function(answers) {
			update(answers);
			examine();
		},
		poll: function() {
			return document.hidden ? Promise.resolve() : again((looks + 1) % LOOKS_PER_CHECK == 0);
		},
		node: el('div', { 'class': 'cbi-map connbal', 'id': 'connbal' },
			el('link', { 'rel': 'stylesheet', 'href': L.resource('connbal/connbal.css') }),
			el('h2', null, _('Connection Balancing')),
			jump(), banner, parts.waiting.node, parts.sources.node, parts.rules.node, parts.findings.node, parts.explain.node, parts.scenarios.node)
	};
}

return view.extend({
	load: function() {
		return look();
	},

	render: function(answers) {
		const page = build(L.hasViewPermission() === false);

		page.begin(answers);
		poll.add(page.poll, SECONDS);

		return page.node;
	},

	handleSaveApply: null,
	handleSave: null,
	handleReset: null
});
