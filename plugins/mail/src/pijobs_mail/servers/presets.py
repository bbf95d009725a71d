"""What is known of the SMTP servers that many use: fields of a definition to start from."""

from __future__ import annotations

from collections.abc import Mapping

from pijobs.definitions import Preset

#: What they say of themselves: limits per connection, per account, and their names.
PRESETS: Mapping[str, Preset] = {
    "microsoft365": Preset(
        "Microsoft 365",
        {
            "server": "smtp.office365.com", "port": 587, "tls": True, "max_connections": 3, "rate": "30/min",
            "mails_per_connection": 100, "oauth_scope": "https://outlook.office365.com/.default",
            "oauth_token_url": "https://login.microsoftonline.com/TENANT/oauth2/v2.0/token",
        },
        "username is the mailbox that sends, and sender its address. Register an application with the permission "
        "SMTP.SendAsApp and put its id and secret into oauth_client_id and oauth_client_secret. A mailbox may send "
        "30 mails a minute, over 3 connections.",
    ),
    "google": Preset(
        "Google (an account)",
        {
            "server": "smtp.gmail.com", "port": 587, "tls": True, "rate": "2000/d", "mails_per_connection": 100,
            "oauth_token_url": "https://oauth2.googleapis.com/token",
        },
        "username and sender are the account's address. Either put a refresh token of the scope "
        "https://mail.google.com/ into oauth_refresh_token, with the id and secret of the OAuth client; or clear "
        "oauth_token_url and put an app password into password. An account may send 2000 mails a day.",
    ),
    "google-relay": Preset(
        "Google Workspace (relay)",
        {
            "server": "smtp-relay.gmail.com", "port": 587, "tls": True, "rate": "10000/d",
            "mails_per_connection": 100,
        },
        "Allow this machine's address in the SMTP relay settings of the domain; set PI_JOB_QUEUE_MAIL_EHLO_NAME to a "
        "name of your domain.",
    ),
    "ses": Preset(
        "Amazon SES",
        {
            "server": "email-smtp.REGION.amazonaws.com", "port": 587, "tls": True, "rate": "14/s",
            "mails_per_connection": 100,
        },
        "username and password are the SMTP credentials, not the access keys. The sender must be verified. Set rate to "
        "the maximum send rate of your account: 14/s out of the sandbox at first, 1/s in it.",
    ),
    "mailgun": Preset(
        "Mailgun",
        {"server": "smtp.mailgun.org", "port": 587, "tls": True, "mails_per_connection": 100},
        "username and password are the SMTP credentials of the domain. Domains in the EU: smtp.eu.mailgun.org.",
    ),
    "postmark": Preset(
        "Postmark",
        {"server": "smtp.postmarkapp.com", "port": 587, "tls": True, "mails_per_connection": 100},
        "username is the access key of the SMTP token, password its secret key. The sender must be a confirmed sender "
        "signature.",
    ),
    "postfix": Preset(
        "Postfix",
        {"port": 587, "tls": True, "mails_per_connection": 100},
        "For a Postfix of your own, which takes many mails over a connection.",
    ),
    "exim": Preset(
        "Exim",
        {"port": 587, "tls": True, "mails_per_connection": 10},
        "For an Exim of your own. It delivers the first 10 mails of a connection at once and leaves the others to its "
        "queue run; raise the field together with its smtp_accept_queue_per_connection.",
    ),
}  # fmt: skip
