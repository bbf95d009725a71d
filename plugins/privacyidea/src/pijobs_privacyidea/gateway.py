"""``pijobs privacyidea sms-gateway``: makes a gateway that queues its messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import flask

from pijobs import Settings
from pijobs_privacyidea.host import Host

#: The setting with the further provider classes that privacyIDEA 3.14 may use.
ALLOWED = "PI_SMS_PROVIDER_MODULES"


class GatewayRefused(Exception):
    """the gateway can't be made as asked for"""


def make_gateway(settings: Settings, name: str, options: Mapping[str, str]) -> Iterator[str]:
    """Make the gateway, or change an existing one of our class.

    :param options: ``WRAPS``, ``FAILOVER``, ``EXPIRES``.
    :returns: lines about what was done, for people.
    :raises GatewayRefused: if the options are invalid, or the name belongs to another gateway.
    """
    from privacyidea.lib.smsprovider.SMSProvider import SMSError, get_smsgateway, set_smsgateway

    from pijobs_privacyidea.sms import CLASS, QueuedSMSProvider

    app = Host.of(settings).app
    with app.app_context():
        present = get_smsgateway(identifier=name)
        if present and present[0].providermodule != CLASS:
            raise GatewayRefused(f"NAME: expected a new name, found {name!r}, which is a gateway that sends")
        try:
            QueuedSMSProvider(smsgateway=SimpleNamespace(option_dict=options)).check_configuration()
        except SMSError as error:
            raise GatewayRefused(str(error)) from None
        # Allow the class first: privacyIDEA may be limited to a list.
        allowed = list(_allow(app, settings.file, CLASS))
        set_smsgateway(name, CLASS, description=f"queued, by {options['WRAPS']}", options=dict(options))
    return iter([f"gateway {name} leaves its messages to the queue; {options['WRAPS']} sends them", *allowed])


def _allow(app: flask.Flask, file: Path | None, name: str) -> Iterator[str]:
    from privacyidea.lib import utils

    if not hasattr(utils, "check_module_allowed"):  # before 3.14, all classes are allowed
        return
    present = app.config.get(ALLOWED) or []
    present = [present] if isinstance(present, str) else list(present)
    if name in present:
        return
    app.config[ALLOWED] = [*present, name]
    line = f"{ALLOWED} = {[*present, name]!r}"
    try:
        assert file is not None
        with file.open("a", encoding="utf-8") as config:
            config.write(f"\n# Added by 'pijobs privacyidea sms-gateway'.\n{line}\n")
    except OSError as error:
        yield f"add this line to {file} yourself, which can't be written ({error.strerror}): {line}"
    else:
        yield f"added to {file}: {line}; restart the server"
