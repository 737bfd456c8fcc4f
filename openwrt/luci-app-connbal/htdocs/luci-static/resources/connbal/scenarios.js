'use strict';
'require baseclass';
'require connbal.api as api';
'require connbal.dom as dom';
'require connbal.words as words';
'require connbal.model as model';

/* The three scenarios as short forms: preview, then apply what was previewed. */

const el = dom.el;
const MOST = 6;  /* sources of a failover that the form has place for */

function input(hint, mode) {
	return el('input', { 'type': 'text', 'class': 'cbi-input-text', 'placeholder': hint, 'inputmode': mode,
		'autocomplete': 'off', 'autocapitalize': 'off', 'spellcheck': 'false' });
}

function choices(first, sources) {
	return [ [ '', first ] ].concat(sources.map(function(name) { return [ name, name ]; }));
}

/* The fields of each scenario: { nodes, read(), sources(names) }. */

function device() {
	const ip = input('192.168.1.178'), mac = input('00:11:22:aa:bb:cc'), name = input('SmartTV');
	const use = dom.select([ [ '', '' ] ]), then = dom.select([ [ '', '' ] ]), others = dom.select([ [ '', '' ] ]);

	return {
		nodes: [
			dom.field('connbal-device-ip', _('IP address'), ip),
			dom.field('connbal-device-mac', _('MAC address'), mac, _('For IPv4 and IPv6; give one of the two, or both.')),
			dom.field('connbal-device-use', _('It uses'), use),
			dom.field('connbal-device-then', _('While that is down'), then),
			dom.field('connbal-device-else', _('All others use'), others),
			dom.field('connbal-device-name', _('Name of the rule'), name)
		],
		read: function() {
			return { ip: ip.value, mac: mac.value, use: use.value, then: then.value, others: others.value, name: name.value };
		},
		sources: function(names) {
			dom.choose(use, choices(_('choose a source'), names));
			dom.choose(then, choices(_('nothing: no Internet'), names));
			dom.choose(others, choices(_('what the other rules say'), names));
		}
	};
}

function failover() {
	const name = input('All_Traffic'), order = [], fields = [];
	const titles = [ _('Use first'), _('While it is down'), _('Then'), _('Then'), _('Then'), _('Then') ];

	for (let i = 0; i < MOST; i++) {
		order.push(dom.select([ [ '', '' ] ]));
		fields.push(dom.field('connbal-failover-' + (i + 1), titles[i], order[i]));
	}

	return {
		nodes: fields.concat([ dom.field('connbal-failover-name', _('Name of the rule'), name) ]),
		read: function() {
			return { interfaces: order.map(function(one) { return one.value; }), name: name.value };
		},
		sources: function(names) {
			order.forEach(function(one, index) {
				dom.choose(one, choices(index < 2 ? _('choose a source') : _('nothing'), names));
				fields[index].hidden = (index >= 2 && index >= names.length);
			});
		}
	};
}

function split() {
	const name = input('All_Traffic'), list = el('div', { 'class': 'connbal-form' });
	const inputs = Object.create(null);  /* a source may be called constructor */
	const affinity = dom.select([
		[ '', _('as it is set now') ], [ 'pair', _('a device with a site') ], [ 'source', _('a device') ],
		[ 'connection', _('each connection by itself') ]
	]);

	return {
		nodes: [
			list,
			dom.field('connbal-split-affinity', _('What stays on one source'), affinity),
			dom.field('connbal-split-name', _('Name of the rule'), name)
		],
		read: function() {
			const shares = Object.create(null);

			for (let source in inputs)
				shares[source] = inputs[source].value;

			return { shares: shares, affinity: affinity.value, name: name.value };
		},
		sources: function(names) {
			for (let source in inputs)
				if (names.indexOf(source) < 0)
					delete inputs[source];

			dom.refill(list, names.map(function(source, index) {
				inputs[source] = inputs[source] || input('0', 'numeric');

				return dom.field('connbal-split-share-' + (index + 1), words.fill(_('Share of %s'), source), inputs[source]);
			}));
		}
	};
}

function shown(doc) {
	return [
		(doc.rules || []).map(function(one) { return el('p', { 'class': 'connbal-plan' }, model.plan(one)); }),
		doc.changed ? el('details', null, el('summary', null, words.fill(_('Lines of the configuration that change: %s'), doc.changes.length)),
			el('pre', { 'class': 'connbal-diff' }, doc.changes.join('\n'))) : el('p', null, _('It is like that already: nothing to change.')),
		doc.notes.map(function(note) { return el('p', { 'class': 'connbal-muted' }, note); }),
		doc.findings.map(function(one) { return el('p', { 'class': 'connbal-loud' }, one.place + ': ' + one.message); })
	];
}

/* One scenario: its form, a preview and the button that does what the preview shows. */
function scenario(page, id, title, text, fields) {
	const preview = el('div', { 'class': 'connbal-result', 'id': 'connbal-' + id + '-preview', 'role': 'status', 'aria-live': 'polite' });
	const look = dom.button('action', _('Preview'), { 'type': 'submit', 'disabled': page.readonly ? '' : null });
	const act = dom.button('apply', _('Apply'), { 'id': 'connbal-' + id + '-apply', 'disabled': '' });
	let previewed = null, edits = 0;

	function forget() {
		edits++;
		previewed = null;
		act.disabled = true;
		dom.refill(preview);
	}

	function failed(error) {
		dom.refill(preview, el('div', { 'class': 'connbal-box connbal-bad' }, error.message));
	}

	function run(event) {
		event.preventDefault();
		forget();

		const asked = model.setup(id, fields.read()), number = edits;

		if (asked.error) {
			failed({ message: asked.error });
			return Promise.resolve();
		}

		look.disabled = true;

		return api.setup(id, asked.options, true).then(function(doc) {
			if (number != edits)
				return;

			dom.refill(preview, shown(doc));
			previewed = asked.options;
			act.disabled = !doc.changed;
		}, function(error) {
			if (number == edits)
				failed(error);
		}).then(function() {
			look.disabled = page.readonly;
		});
	}

	function apply() {
		const options = previewed;

		if (options == null || page.readonly)
			return Promise.resolve();

		act.disabled = true;
		look.disabled = true;
		previewed = null;

		return api.setup(id, options, false).then(function(doc) {
			const told = model.outcome(doc);

			dom.refill(preview, el('div', { 'class': 'connbal-box connbal-' + told.kind },
				told.lines.map(function(line) { return el('div', null, line); })));
		}, failed).then(function() {
			look.disabled = page.readonly;

			return page.refresh();
		});
	}

	act.addEventListener('click', apply);

	return el('details', { 'class': 'connbal-card', 'id': 'connbal-' + id },
		el('summary', null, el('strong', null, title), ' ', el('span', { 'class': 'connbal-muted' }, text)),
		el('form', { 'class': 'connbal-form', 'submit': run, 'input': forget, 'change': forget },
			fields.nodes, el('div', { 'class': 'connbal-submit' }, look, ' ', act)),
		preview);
}

return baseclass.extend({
	/* page: { readonly, refresh() } */
	create: function(page) {
		const forms = { device: device(), failover: failover(), split: split() };
		const node = dom.section('scenarios', _('Set up'),
			_('The three usual things. Each writes the rule, policy and members it needs; the preview shows them first.'),
			scenario(page, 'device', _('A source for a device'), _('A TV, say, uses the second modem.'), forms.device),
			scenario(page, 'failover', _('Failover'), _('The first source while it is up, else the next.'), forms.failover),
			scenario(page, 'split', _('Split'), _('Connections are divided among sources; the larger a share, the more it takes.'), forms.split));
		let known = null;

		return {
			node: node,

			/* A form in use keeps its choices until it is left. */
			update: function(status) {
				const names = status.interfaces.map(function(one) { return one.name; }), text = JSON.stringify(names);

				if (text === known || (known != null && node.contains(document.activeElement)))
					return;

				known = text;

				for (let name in forms)
					forms[name].sources(names);
			}
		};
	}
});
