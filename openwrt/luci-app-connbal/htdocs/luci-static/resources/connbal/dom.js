'use strict';
'require baseclass';

/* Elements of which every text is a text node: LuCI's E() takes a string that is a child by itself as HTML. */

function flat(children, into) {
	children.forEach(function(child) {
		if (Array.isArray(child))
			flat(child, into);
		else if (child != null && child !== false && child !== '')
			into.push(child);
	});

	return into;
}

/* el(tag, attributes or null, child, ...): children are elements, texts, and arrays of them. */
function el(tag, attributes) {
	return E(tag, attributes || {}, flat(Array.prototype.slice.call(arguments, 2), []));
}

/* Put these children in the place of those there. */
function refill(node) {
	while (node.firstChild)
		node.removeChild(node.firstChild);

	flat(Array.prototype.slice.call(arguments, 1), []).forEach(function(child) {
		node.appendChild(typeof(child) == 'object' ? child : document.createTextNode(String(child)));
	});
}

/* A line of news under a section; screen readers read it when it changes. */
function news() {
	const node = el('div', { 'class': 'connbal-news', 'role': 'status', 'aria-live': 'polite' });

	return {
		node: node,
		clear: function() { refill(node); },
		/* kind: good, waiting or bad */
		say: function(kind, lines) {
			refill(node, el('div', { 'class': 'connbal-box connbal-' + kind },
				[].concat(lines).map(function(line) { return el('div', null, line); })));
		}
	};
}

/* A section of the page with a heading, a line of explanation and what is in it. */
function section(id, title, text) {
	const heading = 'connbal-' + id + '-title';

	return el('section', { 'class': 'cbi-section connbal-section', 'id': 'connbal-' + id, 'aria-labelledby': heading },
		el('h3', { 'id': heading }, title),
		text ? el('div', { 'class': 'cbi-section-descr' }, text) : null,
		Array.prototype.slice.call(arguments, 3));
}

/* A field of a form with its label. */
function field(id, title, control, hint) {
	control.setAttribute('id', id);

	if (hint)
		control.setAttribute('aria-describedby', id + '-hint');

	return el('div', { 'class': 'connbal-field' },
		el('label', { 'for': id }, title), control,
		hint ? el('div', { 'class': 'connbal-hint', 'id': id + '-hint' }, hint) : null);
}

function button(kind, text, attributes) {
	const all = { 'type': 'button', 'class': 'cbi-button btn cbi-button-' + kind };

	for (let name in attributes || {})
		all[name] = attributes[name];

	return el('button', all, text);
}

/* A select with choices [ [ value, text ], ... ]. */
function select(choices) {
	const node = el('select', { 'class': 'cbi-input-select' });

	choose(node, choices);

	return node;
}

/* Give a select other choices; what is chosen stays chosen where it is still there. */
function choose(node, choices) {
	const before = node.value;

	refill(node, choices.map(function(one) {
		return el('option', { 'value': one[0] }, one[1]);
	}));

	node.value = choices.some(function(one) { return one[0] === before; }) ? before : choices[0][0];
}

return baseclass.extend({
	el: el,
	refill: refill,
	news: news,
	section: section,
	field: field,
	button: button,
	select: select,
	choose: choose
});
