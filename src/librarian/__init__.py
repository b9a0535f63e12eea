"""Gets research data from where it is made to where it is needed, and proves that it is still all there."""

from typing import Final

__version__: Final = "0.1.0"
