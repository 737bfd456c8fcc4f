'use strict';
'require baseclass';
'require connbal.dom as dom';
'require connbal.words as words';
'require connbal.model as model';

/* What `check` has found, with what would mend it. */

const el = dom.el;
const KINDS = { error: 'bad', warning: 'waiting', info: 'off' };
const NAMES = { error: _('error'), warning: _('warning'), info: _('note') };

/* navigator.clipboard is there on HTTPS only, and many routers' pages are HTTP. */
function copy(node, text) {
	if (navigator.clipboard && window.isSecureContext)
		return navigator.clipboard.writeText(text);

	const range = document.createRange(), selection = window.getSelection();

	range.selectNodeContents(node);
	selection.removeAllRanges();
	selection.addRange(range);

	return document.execCommand('copy') ? Promise.resolve() : Promise.reject(new Error('copy'));
}

function command(text) {
	const code = el('code', null, text);
	const button = dom.button('neutral', _('Copy'), {
		'aria-label': words.fill(_('Copy the command %s'), text),
		'click': function() {
			return copy(code, text).then(
				function() { dom.refill(button, _('Copied')); },
				function() { dom.refill(button, _('Select it and copy')); });
		}
	});

	return el('div', { 'class': 'connbal-command' }, code, ' ', button);
}

function one(finding) {
	const found = model.commands(finding.remedy);

	return el('li', { 'class': 'connbal-card', 'data-code': finding.code },
		el('div', { 'class': 'connbal-head' },
			el('span', { 'class': 'connbal-state connbal-' + (KINDS[finding.severity] || 'off') }, NAMES[finding.severity] || finding.severity),
			el('span', { 'class': 'connbal-name' }, finding.place),
			el('code', { 'class': 'connbal-muted' }, finding.code)),
		el('div', null, finding.message),
		(finding.remedy && finding.remedy !== found[0]) ?
			el('div', { 'class': 'connbal-muted' }, words.fill(_('What helps: %s'), finding.remedy)) : null,
		found.map(command));
}

return baseclass.extend({
	create: function() {
		const list = el('ul', { 'class': 'connbal-list', 'id': 'connbal-finding-list' },
			el('li', { 'class': 'connbal-muted' }, _('Looking ...')));
		let shown = null;

		return {
			node: dom.section('findings', _('Findings'),
				_('What is wrong with the configuration or the machine, or probably not meant. The commands are for a shell on the router.'),
				list),

			/* lists: arrays of findings; the last ones stay where nothing new was asked for. */
			update: function(lists) {
				const found = model.findings(lists), text = JSON.stringify(found);

				if (text === shown || (shown != null && list.contains(document.activeElement)))
					return;

				shown = text;
				dom.refill(list, found.length ? found.map(one) :
					el('li', { 'class': 'connbal-box connbal-good' }, _('Nothing was found.')));
			},

			fail: function(error) {
				shown = null;
				dom.refill(list, el('li', { 'class': 'connbal-box connbal-bad' }, error.message));
			}
		};
	}
});
