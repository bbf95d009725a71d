"""Presets of widely used SMS gateways: field values for a new definition."""

from __future__ import annotations

from collections.abc import Mapping

from pijobs.definitions import Preset

#: From the gateways' documentation of their HTTP interfaces.
PRESETS: Mapping[str, Preset] = {
    "twilio": Preset(
        "Twilio",
        {
            "url": "https://api.twilio.com/2010-04-01/Accounts/{username}/Messages.json", "method": "POST",
            "parameters": {"To": "{phone}", "From": "{sender}", "Body": "{otp}", "StatusCallback": "{receipts}"},
            "json_path": "status", "failure": "^(failed|undelivered|canceled)$", "receipt_status": "MessageStatus",
        },
        "username is the Account SID, password the auth token; sender is a number of yours, or a sender id. For a "
        "messaging service, name the parameter MessagingServiceSid instead of From.",
    ),
    "vonage": Preset(
        "Vonage",
        {
            "url": "https://api.nexmo.com/v1/messages", "method": "POST", "phone_format": "digits",
            "body": '{"message_type": "text", "channel": "sms", "to": "{phone}", "from": "{sender}", '
            '"text": "{otp}", "client_ref": "{id}"}',
            "json_path": "message_uuid", "receipt_id": "client_ref",
        },
        "The Messages API, which finds the letters that a text needs by itself. username is the API key, password the "
        "API secret. The default SMS setting of the account must be the Messages API. For receipts, put their address "
        "into the settings of the account as Status URL.",
    ),
    "messagebird": Preset(
        "MessageBird",
        {
            "url": "https://rest.messagebird.com/messages", "method": "POST", "phone_format": "digits",
            "parameters": {
                "originator": "{sender}", "recipients": "{phone}", "body": "{otp}", "datacoding": "auto",
                "reference": "{id}", "reportUrl": "{receipts}",
            },
            "auth": "none", "headers": {"Authorization": "AccessKey {password}"}, "json_path": "id",
            "receipt_id": "reference",
        },
        "password is the access key; sender a number, or a name of at most 11 letters.",
    ),
    "sipgate": Preset(
        "sipgate",
        {
            "url": "https://api.sipgate.com/v2/sessions/sms", "method": "POST",
            "body": '{"smsId": "{sender}", "recipient": "{phone}", "message": "{otp}"}',
        },
        "username is the id of a personal access token with the scope sessions:sms:write, password the token; sender "
        "is the SMS extension, such as s0.",
    ),
    "clicksend": Preset(
        "ClickSend",
        {
            "url": "https://rest.clicksend.com/v3/sms/send", "method": "POST",
            "body": '{"messages": [{"source": "pijobs", "from": "{sender}", "to": "{phone}", "body": "{otp}", '
            '"custom_string": "{id}"}]}',
            "json_path": "data.messages.*.status", "success": "^SUCCESS$", "receipt_id": "custom_string",
            "receipt_status": "status_code", "receipt_delivered": "^201$", "receipt_failed": "^30[12]$",
        },
        "username is that of the account, password its API key. For receipts, put their address into a rule for SMS "
        "delivery reports.",
    ),
    "seven": Preset(
        "seven",
        {
            "url": "https://gateway.seven.io/api/sms", "method": "POST",
            "parameters": {"to": "{phone}", "from": "{sender}", "text": "{otp}", "foreign_id": "{id}"},
            "auth": "none", "headers": {"X-Api-Key": "{password}", "Accept": "application/json"},
            "json_path": "success", "success": "^100$", "receipt_expects": "messages.*.id",
            "receipt_id": "data.msg_id", "receipt_status": "data.status",
        },
        "password is the API key; sender a name of at most 11 letters, or a number. For receipts, make a webhook for "
        "the event dlr with their address.",
    ),
    "infobip": Preset(
        "Infobip",
        {
            "url": "https://SUBDOMAIN.api.infobip.com/sms/3/messages", "method": "POST", "phone_format": "digits",
            "body": '{"messages": [{"sender": "{sender}", "destinations": [{"to": "{phone}"}], '
            '"content": {"text": "{otp}"}, "webhooks": {"callbackData": "{id}"}}]}',
            "auth": "none", "headers": {"Authorization": "App {password}", "Accept": "application/json"},
            "json_path": "messages.*.status.groupName", "success": "^(ACCEPTED|PENDING|DELIVERED)$",
            "receipt_id": "results.*.callbackData", "receipt_status": "results.*.status.groupName",
        },
        "password is the API key. SUBDOMAIN is that of your base URL, which the portal shows. For receipts, make a "
        "subscription with their address.",
    ),
    "sns": Preset(
        "AWS SNS",
        {
            "url": "https://sns.REGION.amazonaws.com/", "method": "POST",
            "parameters": {
                "Action": "Publish", "Version": "2010-03-31", "PhoneNumber": "{phone}", "Message": "{otp}",
                "MessageAttributes.entry.1.Name": "AWS.SNS.SMS.SMSType",
                "MessageAttributes.entry.1.Value.DataType": "String",
                "MessageAttributes.entry.1.Value.StringValue": "Transactional",
            },
            "auth": "aws", "success": "<MessageId>", "busy": "Throttl",
        },
        "username is the id of an access key whose user may sns:Publish, password the secret access key. For a name as "
        "sender, add MessageAttributes.entry.2 with the name AWS.SNS.SMS.SenderID. SNS tells deliveries to CloudWatch "
        "only.",
    ),
}  # fmt: skip
