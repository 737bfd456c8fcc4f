'use strict';

/* As much of a document as the page's view uses, and no HTML: writing markup into innerHTML is an error. */

class Node {
	constructor(type) { this.nodeType = type; this.childNodes = []; this.parentNode = null; }
	get firstChild() { return this.childNodes[0] || null; }
	appendChild(child) {
		if (child.parentNode)
			child.parentNode.removeChild(child);
		child.parentNode = this;
		this.childNodes.push(child);
		return child;
	}
	removeChild(child) {
		const at = this.childNodes.indexOf(child);
		if (at < 0)
			throw new Error('no child of this node');
		this.childNodes.splice(at, 1);
		child.parentNode = null;
		return child;
	}
	contains(node) {
		for (let one = node; one; one = one.parentNode)
			if (one === this)
				return true;
		return false;
	}
	get textContent() { return this.childNodes.map(one => one.textContent).join(''); }
	/* Every element below, in order. */
	*all() {
		for (const child of this.childNodes)
			if (child.nodeType == 1) {
				yield child;
				yield* child.all();
			}
	}
	find(test) {
		for (const one of this.all())
			if (test(one))
				return one;
		return null;
	}
	byId(id) { return this.find(one => one.getAttribute('id') === id); }
}

class Text extends Node {
	constructor(text) { super(3); this.data = text; }
	get textContent() { return this.data; }
}

class Element extends Node {
	constructor(document, tag) {
		super(1);
		Object.assign(this, { document, tagName: tag.toUpperCase(), attributes: new Map(), listeners: {}, style: {}, value: '', hidden: false });
	}
	get disabled() { return this.attributes.has('disabled'); }
	set disabled(on) { if (on) this.attributes.set('disabled', ''); else this.attributes.delete('disabled'); }
	setAttribute(name, value) {
		if (/^on/i.test(name))
			throw new Error('script in an attribute');
		this.attributes.set(name, String(value));
		if (name == 'value')
			this.value = String(value);
	}
	getAttribute(name) { return this.attributes.has(name) ? this.attributes.get(name) : null; }
	removeAttribute(name) { this.attributes.delete(name); }
	set innerHTML(text) { throw new Error('innerHTML is written: ' + text); }
	get classList() {
		const words = () => new Set((this.getAttribute('class') || '').split(' ').filter(Boolean));
		const write = set => this.setAttribute('class', [...set].join(' '));
		const change = (name, on) => { const set = words(); if (on) set.add(name); else set.delete(name); write(set); };
		return { add: name => change(name, true), remove: name => change(name, false), toggle: change, contains: name => words().has(name) };
	}
	querySelector(selector) {
		const [ , name, value ] = /^\[([a-z-]+)="(.*)"\]$/.exec(selector);
		return this.find(one => one.getAttribute(name) === value);
	}
	getBoundingClientRect() { return { top: 0, height: 10 }; }
	addEventListener(type, run) { (this.listeners[type] = this.listeners[type] || []).push(run); }
	focus() { this.document.activeElement = this; }
	/* Call what listens, here and above; resolves when all of it is over. */
	fire(type, event = {}) {
		const given = Object.assign({ preventDefault() {}, key: '', clientY: 0, dataTransfer: { setData() {} } }, event);
		const ran = [];
		for (let one = this; one; one = one.parentNode)
			for (const run of (one.listeners || {})[type] || [])
				ran.push(run(given));
		return Promise.all(ran);
	}
	click() { return this.disabled ? Promise.resolve() : this.fire('click'); }
}

exports.makeDocument = function() {
	const document = { hidden: false, activeElement: null };
	document.createElement = tag => new Element(document, tag);
	document.createTextNode = text => new Text(text);
	document.body = new Element(document, 'body');
	return document;
};
