'use strict';
'require baseclass';
'require connbal.api as api';
'require connbal.dom as dom';
'require connbal.words as words';
'require connbal.model as model';

/* The form that explains a connection. */

const el = dom.el;

function input(hint, mode) {
	return el('input', { 'type': 'text', 'class': 'cbi-input-text', 'placeholder': hint, 'inputmode': mode,
		'autocomplete': 'off', 'autocapitalize': 'off', 'spellcheck': 'false' });
}

function told(doc) {
	const story = model.story(doc);

	return [
		el('h4', null, _('It goes by')),
		el('ul', { 'class': 'connbal-ways' }, story.headline.map(function(text) { return el('li', null, text); })),
		el('p', { 'class': 'connbal-because' }, story.because),
		story.policy ? el('p', null, story.policy) : null,
		story.rules.length ? el('h4', null, _('Rules on the way')) : null,
		el('ol', { 'class': 'connbal-verdicts' }, story.rules.map(function(rule) {
			return el('li', { 'class': rule.matched ? 'connbal-matched' : '', 'value': rule.number },
				el('strong', { 'class': 'connbal-name' }, rule.name), ' ', rule.text);
		})),
		story.left ? el('p', { 'class': 'connbal-muted' }, words.fill(_('Rules not shown, because they are far from matching or come later: %s.'), story.left)) : null,
		story.notes.map(function(note) { return el('p', { 'class': 'connbal-muted' }, note); })
	];
}

return baseclass.extend({
	create: function() {
		const fields = {
			src: input('192.168.1.178'),
			dst: input('8.8.8.8'),
			proto: dom.select([ [ '', _('not given') ], [ 'tcp', 'TCP' ], [ 'udp', 'UDP' ], [ 'icmp', 'ICMP' ], [ 'icmpv6', 'ICMPv6' ] ]),
			dport: input('443', 'numeric'),
			sport: input('', 'numeric'),
			iif: input('lan'),
			mac: input('00:11:22:aa:bb:cc')
		};
		const result = el('div', { 'class': 'connbal-result', 'id': 'connbal-story', 'role': 'status', 'aria-live': 'polite' });
		const submit = dom.button('action', _('Explain'), { 'type': 'submit' });
		let asked = 0;

		fields.src.setAttribute('required', '');
		fields.dst.setAttribute('required', '');

		function run(event) {
			event.preventDefault();

			const values = {}, number = ++asked;

			for (let name in fields)
				values[name] = fields[name].value;

			const question = model.question(values);

			if (!question.src || !question.dst) {
				dom.refill(result, el('div', { 'class': 'connbal-box connbal-bad' }, _('Give both addresses: who sends, and where to.')));
				return Promise.resolve();
			}

			submit.disabled = true;

			return api.explain(question).then(told, function(error) {
				return el('div', { 'class': 'connbal-box connbal-bad' }, error.message);
			}).then(function(nodes) {
				submit.disabled = false;

				if (number == asked)
					dom.refill(result, nodes);
			});
		}

		return {
			node: dom.section('explain', _('Explain a connection'),
				_('Which source a connection takes, by which rule, and why not by those before. Nothing is sent.'),
				el('form', { 'class': 'connbal-form', 'submit': run },
					dom.field('connbal-src', _('From address'), fields.src),
					dom.field('connbal-dst', _('To address'), fields.dst),
					dom.field('connbal-proto', _('Protocol'), fields.proto),
					dom.field('connbal-dport', _('To port'), fields.dport),
					el('details', null,
						el('summary', null, _('More')),
						el('div', { 'class': 'connbal-form' },
							dom.field('connbal-sport', _('From port'), fields.sport, _('With it, an open connection is looked for.')),
							dom.field('connbal-iif', _('In by network'), fields.iif),
							dom.field('connbal-mac', _('MAC address'), fields.mac))),
					el('div', { 'class': 'connbal-submit' }, submit)),
				result)
		};
	}
});
