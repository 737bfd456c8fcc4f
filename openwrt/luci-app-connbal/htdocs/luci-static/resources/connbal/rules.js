'use strict';
'require baseclass';
'require ui';
'require connbal.api as api';
'require connbal.dom as dom';
'require connbal.words as words';
'require connbal.model as model';

/* The rules in order: moved by drag, by buttons and by keys, enabled, disabled, deleted. */

const el = dom.el;

return baseclass.extend({
	/* page: { readonly, refresh() } */
	create: function(page) {
		const list = el('ol', { 'class': 'connbal-rules', 'id': 'connbal-rule-list' });
		const news = dom.news();
		let rows = [], known = null, drawn = null, abouts = [], dragged = -1, busy = false, waiting = null;

		/* Names and places are of the list as it is shown. Where it has changed meanwhile, nothing is done. */
		function carry(what, text) {
			if (page.readonly)
				return Promise.resolve();

			if (busy) {
				news.say('waiting', _('The last change is still under way. Try again when it is done.'));
				return Promise.resolve();
			}

			busy = true;
			list.classList.add('connbal-busy');
			list.setAttribute('aria-busy', 'true');

			/* It is told when the page is ready for the next one. */
			return api.ruleList().then(function(now) {
				if (!model.sameRules(now, known))
					throw new Error(_('Somebody else has changed the rules meanwhile, so nothing was done. This is how they are now.'));

				return what();
			}).then(function(doc) {
				const told = model.outcome(doc);

				told.lines[0] = text + ' ' + told.lines[0];

				return told;
			}).catch(function(error) {
				return { kind: 'bad', lines: [ error.message ] };
			}).then(function(told) {
				const done = function() { return told; };

				return page.refresh().then(done, done);
			}).then(function(told) {
				busy = false;
				list.classList.remove('connbal-busy');
				list.removeAttribute('aria-busy');

				if (waiting && dragged < 0)
					draw();

				news.say(told.kind, told.lines);
			});
		}

		function move(from, to, focus) {
			const what = model.move(rows, from, to);

			if (what == null)
				return Promise.resolve();

			const label = rows[from].label;

			if (!busy)
				keepFocus = focus ? [ rows[from].named ? what.name : '@rule[' + to + ']', focus ] : null;

			return carry(function() { return api.move(what); }, words.fill(_('%s is now number %s.'), label, to + 1));
		}

		function toggle(rule) {
			return carry(function() { return api.enable(rule.reference, !rule.enabled); },
				words.fill(rule.enabled ? _('%s is now disabled.') : _('%s is now enabled.'), rule.label));
		}

		function remove(rule) {
			const cancel = dom.button('neutral', _('Cancel'), { 'click': function() { ui.hideModal(); } });
			const really = dom.button('negative', _('Delete'), {
				'id': 'connbal-really-delete',
				'click': function() {
					ui.hideModal();
					return carry(function() { return api.remove(rule.reference); }, words.fill(_('%s is deleted.'), rule.label));
				}
			});

			ui.showModal([ _('Delete rule') ], [
				el('p', null, words.fill(_('Delete %s (%s)? Its policy stays.'), rule.label, rule.matches)),
				el('div', { 'class': 'right' }, cancel, ' ', really)
			]);
			cancel.focus();
		}

		/* --- drag --- */

		let keepFocus = null, gap = -1;

		function mark(at) {
			gap = at;

			for (let i = 0; i < list.childNodes.length; i++) {
				list.childNodes[i].classList.toggle('connbal-above', i == at);
				list.childNodes[i].classList.toggle('connbal-below', i == at - 1 && at == list.childNodes.length);
			}
		}

		function begin(index, row, event) {
			if (busy || page.readonly)
				return event.preventDefault();

			dragged = index;
			row.classList.add('connbal-dragged');
			event.dataTransfer.effectAllowed = 'move';
			event.dataTransfer.setData('text/plain', rows[index].label);

			if (event.dataTransfer.setDragImage)
				event.dataTransfer.setDragImage(row, 8, 8);
		}

		function over(index, row, event) {
			if (dragged < 0)
				return;

			const box = row.getBoundingClientRect();

			event.preventDefault();
			event.dataTransfer.dropEffect = 'move';
			mark(event.clientY > box.top + box.height / 2 ? index + 1 : index);
		}

		function end() {
			dragged = -1;
			mark(-1);

			for (let i = 0; i < list.childNodes.length; i++)
				list.childNodes[i].classList.remove('connbal-dragged');

			if (waiting)
				draw();
		}

		function drop(event) {
			if (dragged < 0)
				return;

			event.preventDefault();

			const from = dragged, to = (gap < 0) ? from : model.dropIndex(from, gap);

			end();
			move(from, to, null);
		}

		list.addEventListener('drop', drop);

		/* --- drawing --- */

		function handle(index, rule) {
			/* No button: Firefox drags none. */
			return el('span', {
				'role': 'button', 'class': 'connbal-handle', 'data-what': 'handle',
				'tabindex': page.readonly ? null : '0', 'aria-disabled': page.readonly ? 'true' : null,
				'draggable': page.readonly ? 'false' : 'true',
				'title': _('Drag, or press the keys up, down, Home and End'),
				'aria-label': words.fill(_('Move %s with the up and down keys'), rule.label),
				'keydown': function(event) {
					const to = { ArrowUp: index - 1, ArrowDown: index + 1, Home: 0, End: rows.length - 1 }[event.key];

					if (to != null) {
						event.preventDefault();
						return move(index, to, 'handle');
					}
				}
			}, '\u2630');
		}

		function action(rule, what, kind, text, label, off, run) {
			return dom.button(kind, text, {
				'data-what': what, 'aria-label': label, 'title': label,
				'disabled': (off || page.readonly) ? '' : null, 'click': run
			});
		}

		/* What changes while the rule stays as it is. */
		function about(rule) {
			const parts = [];

			if (!rule.enabled)
				parts.push(_('disabled'));
			else if (rule.unused)
				parts.push(words.fill(_('not in use: %s'), rule.unused));
			if (rule.packets != null)
				parts.push(words.fill(_('connections so far: %s'), rule.packets));

			return parts.join(', ');
		}

		function row(rule, index) {
			abouts[index] = el('div', { 'class': 'connbal-muted' }, about(rule));

			const grip = handle(index, rule);
			const node = el('li', { 'class': 'connbal-rule' + (rule.enabled ? '' : ' connbal-disabled'), 'data-rule': rule.reference },
				grip,
				el('span', { 'class': 'connbal-number', 'aria-hidden': 'true' }, rule.number),
				el('div', { 'class': 'connbal-what' },
					el('div', null, el('strong', { 'class': 'connbal-name' }, rule.label), ' \u2192 ',
						el('span', { 'class': 'connbal-name' }, rule.policy || _('no policy'))),
					el('div', null, rule.matches),
					abouts[index]),
				el('div', { 'class': 'connbal-actions' },
					action(rule, 'up', 'neutral', '\u2191', words.fill(_('Move %s up'), rule.label), index == 0,
						function() { return move(index, index - 1, 'up'); }),
					action(rule, 'down', 'neutral', '\u2193', words.fill(_('Move %s down'), rule.label), index == rows.length - 1,
						function() { return move(index, index + 1, 'down'); }),
					action(rule, 'toggle', 'neutral', rule.enabled ? _('Disable') : _('Enable'),
						words.fill(rule.enabled ? _('Disable %s') : _('Enable %s'), rule.label), false,
						function() { return toggle(rule); }),
					action(rule, 'delete', 'negative', _('Delete'), words.fill(_('Delete %s'), rule.label), false,
						function() { remove(rule); })));

			grip.addEventListener('dragstart', begin.bind(null, index, node));
			grip.addEventListener('dragend', end);
			node.addEventListener('dragover', over.bind(null, index, node));

			return node;
		}

		/* What had the focus, as [ rule, control ], so that it has it again after the list was drawn anew. */
		function focused() {
			const active = document.activeElement;

			if (!active || !list.contains(active))
				return null;

			return [ active.parentNode.getAttribute('data-rule') || active.parentNode.parentNode.getAttribute('data-rule'),
				active.getAttribute('data-what') ];
		}

		function focus(wanted) {
			for (let i = 0; wanted && i < list.childNodes.length; i++) {
				if (list.childNodes[i].getAttribute('data-rule') !== wanted[0])
					continue;

				const found = list.childNodes[i].querySelector('[data-what="' + wanted[1] + '"]');

				/* At the end of the list, the button of the other direction goes on working. */
				if (found)
					(found.disabled ? list.childNodes[i].querySelector('[data-what="handle"]') : found).focus();
			}
		}

		function draw() {
			/* Counters change all the time, and a button must not be another one between press and release. */
			const next = waiting, before = rows, text = JSON.stringify(next.rows.map(function(rule) {
				return Object.assign({}, rule, { packets: null, unused: null });
			}));

			waiting = null;
			known = next.list;
			rows = next.rows;

			if (text === drawn) {
				rows.forEach(function(rule, index) {
					if (about(rule) != about(before[index]))
						dom.refill(abouts[index], about(rule));
				});

				return;
			}

			const wanted = keepFocus || focused();

			drawn = text;
			abouts = [];
			keepFocus = null;
			dom.refill(list, rows.length ? rows.map(row) :
				el('li', { 'class': 'connbal-muted' }, _('The configuration has no rules yet. The forms below make some.')));
			focus(wanted);
		}

		return {
			node: dom.section('rules', _('Rules'),
				_('Rules are tried from the top; the first that matches decides. Put special ones above general ones: drag them, or use the arrows.'),
				list, news.node),

			/* doc: rule-list/1; status: status/1 or null. While a rule is dragged, the list stays as it is. */
			update: function(doc, status) {
				waiting = { list: doc, rows: model.rules(doc, status) };

				if (dragged < 0 && !busy)
					draw();
			}
		};
	}
});
