"""The pages' templates: what they are filled with is escaped, and must be there."""

from __future__ import annotations

from functools import cache

import jinja2


@cache
def template(name: str) -> jinja2.Template:
    """A template of this package, such as `report.html`."""
    # Names of features and values come from the data, so all of it is escaped.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fraud_assets.pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)
