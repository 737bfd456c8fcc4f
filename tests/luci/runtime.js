'use strict';

/* A small stand-in for LuCI's client-side runtime, for node and for browsers. What it does as LuCI does: `require`
 * directives, classes and singletons, E() (a string that is a child by itself becomes HTML; strings in arrays become
 * text), rpc.declare() with its errors, polls, modal windows,
 * translations. `make(world)` takes
 *   read(path)            a promise of a file below htdocs/luci-static/resources
 *   ubus(object, method, args)  a promise of { answer } or { code }
 *   document, window, permission
 */
(function(root) {

function isClass(value) {
	return typeof(value) == 'function' && value.luciClass === true;
}

function extend(base, properties) {
	function made() {}

	made.prototype = Object.create(base ? base.prototype : Object.prototype);
	made.luciClass = true;

	for (const name in properties)
		made.prototype[name] = properties[name];

	made.extend = function(more) { return extend(made, more); };

	return made;
}

function make(world) {
	const document = world.document;
	const isNode = function(value) { return value != null && typeof(value) == 'object' && 'nodeType' in value; };

	function append(node, children) {
		if (Array.isArray(children))
			children.forEach(function(child) {
				node.appendChild(isNode(child) ? child : document.createTextNode('' + child));
			});
		else if (isNode(children))
			node.appendChild(children);
		else if (children !== null && children !== undefined)
			node.innerHTML = '' + children;
	}

	function E(tag, attributes, children) {
		if (!(attributes instanceof Object) || Array.isArray(attributes)) {
			children = attributes;
			attributes = null;
		}

		if (tag.charAt(0) == '<')
			throw new Error('markup in E(): ' + tag);

		const node = document.createElement(tag);

		for (const name in attributes || {}) {
			const value = attributes[name];

			if (value === null || value === undefined)
				continue;
			if (typeof(value) == 'function')
				node.addEventListener(name, value);
			else
				node.setAttribute(name, typeof(value) == 'object' ? JSON.stringify(value) : value);
		}

		append(node, children);

		return node;
	}

	const polls = [], modals = [];
	const builtin = {
		baseclass: extend(null, {}),
		view: extend(null, {}),
		rpc: {
			declare: function(options) {
				return function() {
					const given = arguments, args = {};

					(options.params || []).forEach(function(name, index) { args[name] = given[index]; });

					/* What is undefined does not survive JSON. */
					return world.ubus(options.object, options.method, JSON.parse(JSON.stringify(args))).then(function(said) {
						if (said.failed)
							throw new Error(said.failed);
						/* What the session may not call, or what is not there, is an error of JSON-RPC. */
						if (said.code === 6 || said.code === 4)
							throw new Error('RPC call to ' + options.object + '/' + options.method + ' failed with error ' +
								(said.code == 6 ? '-32002: Access denied' : '-32000: Object not found'));
						return (said.answer !== undefined) ? said.answer : said.code;
					});
				};
			},
			getStatusText: function(code) { return { 4: 'Resource not found', 6: 'Permission denied', 7: 'Request timeout' }[code] || 'Unknown error code'; }
		},
		poll: {
			/* A poll that is still under way is not begun again. */
			add: function(run, seconds) {
				let running = null;
				const once = function() {
					if (!running)
						running = Promise.resolve(run()).finally(function() { running = null; });
					return running;
				};

				polls.push({ run: once, seconds: seconds });
				world.polled && world.polled(once, seconds);
			}
		},
		ui: {
			showModal: function(title, children) {
				const node = E('div', { 'class': 'modal', 'role': 'dialog', 'aria-modal': 'true' });

				append(node, [ E('h4', {}, title) ]);
				children.forEach(function(child) { append(node, [ child ]); });
				modals.push(node);
				document.body.appendChild(node);

				return node;
			},
			hideModal: function() {
				while (modals.length)
					document.body.removeChild(modals.pop());
			}
		}
	};

	const L = {
		resource: function(path) { return (world.base || '/luci-static/resources/') + path; },
		hasViewPermission: function() { return world.permission; }
	};
	const loaded = {};

	function directives(text) {
		const found = [];

		for (const line of text.split('\n')) {
			const match = /^'require[ \t]+(\S+?)(?:[ \t]+as[ \t]+([A-Za-z_]\w*))?';$/.exec(line);

			if (match)
				found.push([ match[1], match[2] || match[1].replace(/\W/g, '_') ]);
			else if (line.trim() != '' && line != "'use strict';")
				break;
		}

		return found;
	}

	function require(name) {
		if (builtin[name])
			return Promise.resolve(builtin[name]);

		if (!loaded[name])
			loaded[name] = world.read(name.replace(/\./g, '/') + '.js').then(function(text) {
				const needs = directives(text);

				return Promise.all(needs.map(function(need) { return require(need[0]); })).then(function(instances) {
					const names = needs.map(function(need) { return need[1]; });
					/* LuCI looks for a translation by the text without white space at its ends, and gives back what it finds. */
					const translate = function(words) { return world.translate ? world.translate(words.trim()) || words : words; };
					const factory = new Function('window', 'document', 'L', 'E', '_', 'navigator', ...names, text + '\n//# sourceURL=' + name + '.js');
					const made = factory(world.window, document, L, E, translate,
						world.window.navigator, ...instances);

					if (!isClass(made))
						throw new Error(name + ' returns no class');

					return new made();
				});
			});

		return loaded[name];
	}

	return { require: require, polls: polls, E: E, L: L };
}

root.makeLuCI = make;

})(typeof(module) == 'object' ? module.exports : window);
