# SPDX-License-Identifier: GPL-3.0-or-later
# Stands for the feed's python3-package.mk when openwrt/stage runs: the package's own install section, its Python
# modules, all of it compiled to bytecode, the sources and the metadata of the build removed.

PYTHON3_PKG_DIR = /usr/lib/python$(STAGE_PYTHON_VERSION)/site-packages

define Py3Package
  ifndef Py3Package/$(1)/install
  define Py3Package/$(1)/install
	if [ -d $(PKG_INSTALL_DIR)/usr/bin ]; then $(INSTALL_DIR) $$(1)/usr/bin; $(CP) $(PKG_INSTALL_DIR)/usr/bin/* $$(1)/usr/bin/; fi
  endef
  endif

  define Package/$(1)/install
	$$(call Py3Package/$(1)/install,$$(1))
	$(INSTALL_DIR) $$(1)$(PYTHON3_PKG_DIR)
	$(CP) $(PKG_INSTALL_DIR)$(PYTHON3_PKG_DIR)/* $$(1)$(PYTHON3_PKG_DIR)/
	rm -rf $$(1)$(PYTHON3_PKG_DIR)/*.egg-info
	$(STAGE_PYTHON) -m compileall -q -b -s $$(1) -p / $$(1)
	find $$(1) -type f -name '*.py' -exec rm {} +
  endef
endef
