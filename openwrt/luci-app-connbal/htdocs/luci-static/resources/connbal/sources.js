'use strict';
'require baseclass';
'require connbal.dom as dom';
'require connbal.words as words';
'require connbal.model as model';

/* The sources, with what is known of them, and how policies divide connections among them now. */

const el = dom.el;

function state(kind, text) {
	return el('span', { 'class': 'connbal-state connbal-' + kind }, text);
}

function one(source) {
	const said = words.source(source);
	const about = [ source.device || _('no device'), words.family(source.family) ];
	const hosts = (source.tracker && source.tracker.tracked) ? source.tracker.hosts : [];

	return el('li', { 'class': 'connbal-card', 'data-source': source.name },
		el('div', { 'class': 'connbal-head' },
			el('strong', { 'class': 'connbal-name' }, source.name),
			state(said.kind, said.state),
			said.since ? el('span', { 'class': 'connbal-muted' }, words.fill(_('for %s'), said.since)) : null),
		el('div', { 'class': 'connbal-muted' }, about.join(', ')),
		(said.reason && said.reason != said.state) ? el('div', { 'class': 'connbal-reason' }, said.reason) : null,
		hosts.length ? el('ul', { 'class': 'connbal-hosts', 'aria-label': words.fill(_('Hosts that %s is tested by'), source.name) },
			hosts.map(function(host) {
				return el('li', null, el('span', { 'class': 'connbal-host' }, host.host), ' ',
					el('span', { 'class': host.state == 'down' ? 'connbal-loud' : 'connbal-muted' }, words.host(host)));
			})) : null);
}

function share(part) {
	const bar = el('span', { 'class': 'connbal-bar', 'aria-hidden': 'true' }, el('span', { 'class': 'connbal-fill' }));

	bar.firstChild.style.width = Math.max(0, Math.min(100, part.percent)) + '%';

	return el('div', { 'class': 'connbal-share' },
		el('span', { 'class': 'connbal-source' }, part['interface']), bar,
		el('span', { 'class': 'connbal-percent' }, words.percent(part.percent)));
}

function policy(found) {
	return el('li', { 'class': 'connbal-card', 'data-policy': found.name },
		el('div', { 'class': 'connbal-head' }, el('strong', { 'class': 'connbal-name' }, found.name)),
		found.tiers.map(function(tier) {
			return el('div', { 'class': 'connbal-tier' },
				el('div', { 'class': 'connbal-muted' }, words.family(tier.family), ': ', tier.reason),
				tier.shares.map(share));
		}));
}

return baseclass.extend({
	create: function() {
		const sources = el('ul', { 'class': 'connbal-cards', 'id': 'connbal-source-list' });
		const policies = el('ul', { 'class': 'connbal-cards', 'id': 'connbal-policy-list' });
		let shown = null;

		return {
			node: el('div', null,
				dom.section('sources', _('Internet sources'), _('Each source, whether connections use it, and why.'), sources),
				dom.section('policies', _('Shares'), _('Where the new connections of each policy go now.'), policies)),

			update: function(status) {
				const text = JSON.stringify([ status.interfaces, status.policies ]);

				if (text === shown)
					return;

				shown = text;
				dom.refill(sources, status.interfaces.length ? status.interfaces.map(one) :
					el('li', { 'class': 'connbal-muted' }, _('The configuration has no sources yet.')));

				const found = model.policies(status);

				dom.refill(policies, found.length ? found.map(policy) :
					el('li', { 'class': 'connbal-muted' }, _('The configuration has no policies yet.')));
			}
		};
	}
});
