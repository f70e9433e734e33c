"""Digest authentication, which the command line of schemathesis does not have."""

import os

import schemathesis
from requests.auth import HTTPDigestAuth

KEY = os.environ.get("EBBTIDE_DIGEST")

if KEY:
    # One for all requests, so that a nonce is used again and again, as clients do.
    AUTH = HTTPDigestAuth(*KEY.split(":", 1))

    @schemathesis.hook
    def before_call(context, case, kwargs):
        kwargs["auth"] = AUTH
