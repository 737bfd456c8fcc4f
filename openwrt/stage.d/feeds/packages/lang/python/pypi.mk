# SPDX-License-Identifier: GPL-3.0-or-later
# Stands for the feed's pypi.mk when openwrt/stage runs. Nothing is downloaded: a package from PyPI is the one that the
# Python which stages has installed.

ifneq ($(PYPI_NAME),)
define Build/Compile
	$(INSTALL_DIR) $(PKG_INSTALL_DIR)$(PYTHON3_PKG_DIR)
	$(CP) "$$($(STAGE_PYTHON) -c 'import $(PYPI_NAME) as p; print(p.__path__[0])')" $(PKG_INSTALL_DIR)$(PYTHON3_PKG_DIR)/
	find $(PKG_INSTALL_DIR) -name __pycache__ -prune -exec rm -r {} +
endef
else
define Build/Compile
	cd $(PKG_BUILD_DIR) && $(STAGE_PYTHON) -W ignore setup.py -q install --root=$(PKG_INSTALL_DIR) --no-compile \
		--single-version-externally-managed --install-lib=$(PYTHON3_PKG_DIR) --install-scripts=/usr/bin
endef
endif
