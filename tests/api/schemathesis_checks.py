"""Rules for schemathesis that the OpenAPI document cannot express.

They define server errors and rejected bodies, never by the status code alone. See server_errors_are_the_contracts().
"""

import functools
import json
import os
import re

import jsonschema_rs
import schemathesis

# By contract, invalid parameters are answered with 500 and one of these texts. A 500 with another text is a server error.
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
# A resync with a failed operation returns 500 with the transaction record.
RESYNC = "/scheduler/downstream-resync"


@schemathesis.hook
def after_call(context, case, response):
    with open(os.environ["SCHEMATHESIS_COUNT"], "a", encoding="ascii") as count:
        count.write(f"{response.status_code}\n")


@schemathesis.check
def server_errors_are_the_contracts(ctx, response, case):
    """Allows only the 5xx responses in the contract, with a body that says what is wrong."""
    if response.status_code < 500:
        return
    body = response.json()
    assert response.status_code == 500, f"{response.status_code}: {body}"
    if case.path == RESYNC and "Record" in body:
        return
    assert REFUSALS.search(body["Error"]), f"a server error: {body}"


def as_read(form):
    """Returns a schema that accepts scalars as the agent does: unquoted YAML scalars as texts, and quoted numbers as in protobuf
    JSON."""
    if isinstance(form, list):
        return [as_read(one) for one in form]
    if not isinstance(form, dict):
        return form
    form = {name: as_read(one) for name, one in form.items()}
    # A member can also be named `type`; then it is not text. Numbers without limits are those of enums, which cannot have
    # quotes.
    types = form.get("type", [])
    types = {one for one in (types if isinstance(types, list) else [types]) if isinstance(one, str)}
    if "string" in types and "enum" not in form:
        form["type"] = sorted(types | {"number", "boolean"})
    elif "integer" in types and "minimum" in form:
        form["type"] = sorted(types | {"string"})
    return form


@functools.cache
def reader(document):
    """Returns a body validator, built from the schema in the document."""
    document = json.loads(document)
    return jsonschema_rs.validator_for({
        "$ref": "#/components/schemas/ligato.configurator.Dynamic_config",
        "components": as_read({"schemas": document["components"]["schemas"]}),
    })


@schemathesis.check
def unreadable_bodies_are_refused(ctx, response, case):
    """Rejects success for a body that violates the schema of the configuration document."""
    meta = case.meta
    if meta is None or not meta.generation.mode.is_negative or case.operation.body is None:
        return
    broken = {component.value for component, info in meta.components.items() if info.mode.is_negative}
    document = json.dumps(case.operation.schema.raw_schema, sort_keys=True)
    if broken == {"body"} and not reader(document).is_valid(case.body):
        assert response.status_code >= 400, f"{response.status_code} although {meta.phase.data}"
