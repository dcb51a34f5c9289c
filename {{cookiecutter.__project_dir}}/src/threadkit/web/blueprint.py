"""A Flask blueprint whose handlers are typed functions.

    items = Blueprint("items", __name__, url_prefix="/v1/items")

    @items.get("/<int:item_id>", problems=(404,))
    def get(item_id: int) -> ItemView: ...

What such a function may take and return is told in ``threadkit.web.views``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import flask

from threadkit.web.views import as_view, check_path, operation

Handler = TypeVar("Handler", bound=Callable[..., Any])


class Blueprint(flask.Blueprint):
    """``flask.Blueprint`` for handlers as ``threadkit.web.views`` describes them.

    ``problems`` lists the error statuses that a route answers on purpose, for the OpenAPI
    document; those that every route of its kind can answer are added by themselves.
    """

    def add_url_rule(
        self,
        rule: str,
        endpoint: str | None = None,
        view_func: Callable[..., Any] | None = None,
        provide_automatic_options: bool | None = None,
        *,
        problems: tuple[int, ...] = (),
        **options: Any,
    ) -> None:
        """As Flask's; a view that is no typed handler yet becomes one."""
        if view_func is not None and not hasattr(view_func, "operation"):
            endpoint = endpoint or view_func.__name__
            check_path(view_func, f"{self.url_prefix or ''}{rule}")
            view_func = as_view(operation(view_func, problems=problems))
        super().add_url_rule(rule, endpoint, view_func, provide_automatic_options, **options)

    def get(self, rule: str, **options: Any) -> Callable[[Handler], Handler]:
        """A route for GET, and HEAD with it."""
        return self._route("GET", rule, options)

    def post(self, rule: str, **options: Any) -> Callable[[Handler], Handler]:
        """A route for POST."""
        return self._route("POST", rule, options)

    def put(self, rule: str, **options: Any) -> Callable[[Handler], Handler]:
        """A route for PUT."""
        return self._route("PUT", rule, options)

    def patch(self, rule: str, **options: Any) -> Callable[[Handler], Handler]:
        """A route for PATCH."""
        return self._route("PATCH", rule, options)

    def delete(self, rule: str, **options: Any) -> Callable[[Handler], Handler]:
        """A route for DELETE."""
        return self._route("DELETE", rule, options)

    def _route(
        self, method: str, rule: str, options: dict[str, Any]
    ) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            self.add_url_rule(rule, view_func=handler, methods=[method], **options)
            return handler

        return register
