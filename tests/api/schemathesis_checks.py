"""Rules for schemathesis that the OpenAPI document cannot say.

Owns what a server error is, and what counts as refused. Must never excuse an answer by its code alone. Start reading at
server_errors_are_the_contracts().
"""

import functools
import json
import os
import re

import jsonschema_rs
import schemathesis

# The contract answers 500 to parameters that make no sense, in these words. A 500 in other words is a server error.
REFUSALS = re.compile(
    "|".join([
        "argument listed more than once",
        "descriptor is not registered",
        "descriptor does not support Retrieve operation",
        "unrecognized system view",
        "unknown key prefix",
        "unrecognized output format",
        "missing (key|flag) argument",
        "unknown flag ",
        r"parameter [a-z-]+=.*: a number is expected|parameter [a-z-]+=.*; a number is expected",
        "invalid log level",
        "invalid logger name",
    ]),
    re.DOTALL,
)
# A resync in which an operation fails answers 500 with the record of what was done.
RESYNC = "/scheduler/downstream-resync"


@schemathesis.hook
def after_call(context, case, response):
    with open(os.environ["SCHEMATHESIS_COUNT"], "a", encoding="ascii") as count:
        count.write(f"{response.status_code}\n")


@schemathesis.check
def server_errors_are_the_contracts(ctx, response, case):
    """No 5xx but those of the contract; their body says what is wrong, as that of every error."""
    if response.status_code < 500:
        return
    body = response.json()
    assert response.status_code == 500, f"{response.status_code}: {body}"
    if case.path == RESYNC and "Record" in body:
        return
    assert REFUSALS.search(body["Error"]), f"a server error: {body}"


def as_read(form):
    """A schema with what the reader does with scalars: in YAML one without quotes is a text where a text belongs, and in protobuf JSON
    numbers can have quotes."""
    if isinstance(form, list):
        return [as_read(one) for one in form]
    if not isinstance(form, dict):
        return form
    form = {name: as_read(one) for name, one in form.items()}
    # A member can be named `type` as well, and is no text. Numbers without limits are those of enums, which have no quotes.
    types = form.get("type", [])
    types = {one for one in (types if isinstance(types, list) else [types]) if isinstance(one, str)}
    if "string" in types and "enum" not in form:
        form["type"] = sorted(types | {"number", "boolean"})
    elif "integer" in types and "minimum" in form:
        form["type"] = sorted(types | {"string"})
    return form


@functools.cache
def reader(document):
    """Judges bodies by the document's schema of them."""
    document = json.loads(document)
    return jsonschema_rs.validator_for({
        "$ref": "#/components/schemas/ligato.configurator.Dynamic_config",
        "components": as_read({"schemas": document["components"]["schemas"]}),
    })


@schemathesis.check
def unreadable_bodies_are_refused(ctx, response, case):
    """A body that breaks the schema of the configuration document is never accepted."""
    meta = case.meta
    if meta is None or not meta.generation.mode.is_negative or case.operation.body is None:
        return
    broken = {component.value for component, info in meta.components.items() if info.mode.is_negative}
    document = json.dumps(case.operation.schema.raw_schema, sort_keys=True)
    if broken == {"body"} and not reader(document).is_valid(case.body):
        assert response.status_code >= 400, f"{response.status_code} although {meta.phase.data}"
