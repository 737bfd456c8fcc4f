"""The fixture ``router`` for tests of pages, too."""

from tests.router.conftest import router, staged

__all__ = ["router", "staged"]
