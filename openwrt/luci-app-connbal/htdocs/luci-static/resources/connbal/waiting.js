'use strict';
'require baseclass';
'require connbal.api as api';
'require connbal.dom as dom';
'require connbal.words as words';

/* Changes that go back by themselves: whether those made on this page do, and the one that waits to be kept. */

const el = dom.el;
/* Seconds that are offered; the router takes 5 to 3600. */
const CHOICES = [ 30, 90, 300 ];

return baseclass.extend({
	/* page: { readonly, refresh() } */
	create: function(page) {
		const choice = dom.select([ [ '', _('stay') ] ].concat(CHOICES.map(function(seconds) {
			return [ String(seconds), words.fill(_('go back after %s, unless kept'), words.duration(seconds)) ];
		})));
		const left = el('span', { 'id': 'connbal-waiting-left' });
		const what = el('div');
		const news = dom.news();
		const keep = dom.button('apply', _('Keep'), { 'id': 'connbal-keep', 'disabled': page.readonly ? '' : null });
		const back = dom.button('reset', _('Take back now'), { 'id': 'connbal-take-back', 'disabled': page.readonly ? '' : null });
		const box = el('div', { 'class': 'connbal-box connbal-waiting', 'id': 'connbal-waiting', 'role': 'status', 'hidden': '' },
			el('div', null, el('strong', null, _('A change goes back by itself, unless it is kept.')), ' ', left),
			what, el('div', { 'class': 'connbal-submit' }, keep, ' ', back));
		let due = null, timer = null;

		choice.disabled = page.readonly;
		choice.addEventListener('change', function() { api.goBack(Number(choice.value) || 0); });

		/* One timer at most, and none while nothing waits. */
		function count() {
			timer = null;

			if (due == null) {
				dom.refill(left);
				return;
			}

			const seconds = Math.max(0, Math.round((due - Date.now()) / 1000));

			dom.refill(left, seconds ? words.fill(_('%s left.'), words.duration(seconds)) : _('It is going back now.'));

			if (seconds) {
				timer = setTimeout(count, 1000);
				/* Where this is no browser, nobody waits for it. */
				if (timer && timer.unref)
					timer.unref();
			}
		}

		function show(waiting) {
			box.hidden = !waiting;
			due = waiting ? Date.now() + waiting.left * 1000 : null;
			/* Whatever is changed meanwhile joins it: else the router would refuse. */
			api.joins(waiting ? waiting.seconds : 0);

			if (waiting)
				dom.refill(what, (waiting.what || []).map(function(one) { return el('div', null, one); }));
			clearTimeout(timer);
			count();
		}

		function answer(revert, said) {
			keep.disabled = back.disabled = true;
			news.clear();

			return api.confirm(revert).then(function() {
				news.say('good', said);
			}, function(error) {
				news.say('bad', error.message);
			}).then(function() {
				keep.disabled = back.disabled = page.readonly;

				return page.refresh();
			});
		}

		keep.addEventListener('click', function() { return answer(false, _('The change is kept.')); });
		back.addEventListener('click', function() { return answer(true, _('The change is taken back.')); });

		return {
			node: el('div', { 'class': 'connbal-back' }, box, news.node,
				dom.field('connbal-go-back', _('Changes made on this page'), choice,
					_('For when a change might cut you off from the router: it then goes back by itself, also after a restart.'))),

			update: function(status) {
				show(status.waiting || null);
			}
		};
	}
});
