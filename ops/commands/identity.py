"""`mirage identity add|list|revoke`: faces and voices, each with its consent record."""

import asyncio
import secrets
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ops.commands.common import LOCAL_USER, connected, emit, json_option, run, start
from ops.wiring import session_store
from schemas.consent import Consent, Evidence, Identity
from schemas.errors import Refused
from schemas.identity_store import IdentityStore

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def identity() -> None:
    """Add, list and revoke identities."""


@identity.command()
@click.option("--portrait", type=_FILE, help="JPEG or PNG with one frontal face.")
@click.option("--voice", type=_FILE, help="PCM16 WAV with at least 10 s of speech.")
@click.option("--label", default="", help="Name shown in the studio.")
@click.option("--subject", required=True, help="Whose face or voice it is.")
@click.option("--granted-to", default=LOCAL_USER, show_default=True, help="Who may wear it; * for anyone.")
@click.option("--purpose", required=True, help="What it may be used for.")
@click.option("--expires", type=click.DateTime(["%Y-%m-%d"]), help="Last day; one year from now when absent.")
@click.option("--statement", required=True, help="Your attestation: how the subject agreed.")
@click.option("--attested-by", required=True, help="Who makes the attestation.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    default=("live",),
    show_default=True,
    type=click.Choice(["live", "record"]),
    help="What is allowed beside wearing it.",
)
@json_option
def add(
    portrait: Path | None,
    voice: Path | None,
    label: str,
    subject: str,
    granted_to: str,
    purpose: str,
    expires: datetime | None,
    statement: str,
    attested_by: str,
    scopes: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Enrol a portrait, a voice or both under a consent record."""
    if portrait is None and voice is None:
        raise click.UsageError("give --portrait, --voice or both")
    kinds = (("face",) if portrait else ()) + (("voice",) if voice else ())
    last_day: date = expires.date() if expires else datetime.now(UTC).date() + timedelta(days=365)
    ends = datetime.combine(last_day, time.max, UTC)
    try:
        consent = Consent(
            subject=subject,
            granted_to=granted_to,
            scope=(*kinds, *scopes),
            purpose=purpose,
            expires_ms=int(ends.timestamp() * 1000),
            evidence=Evidence(statement=statement, by=attested_by),
        )
    except ValueError as error:
        raise Refused(str(error)) from None
    run(_add(portrait, voice, label or subject, kinds, consent, as_json=as_json))


async def _add(
    portrait: Path | None, voice: Path | None, label: str, kinds: tuple[str, ...], consent: Consent, *, as_json: bool
) -> None:
    from ops.enrolment import enrol_face, enrol_voice  # noqa: PLC0415 - loads engines

    async with connected(start(role="cli")) as planes:
        record = Identity(
            id=secrets.token_hex(8),
            label=label,
            kinds=kinds,
            owner=LOCAL_USER,
            created_ms=await planes.events.now_ms(),
            consent=consent,
        )
        face = await asyncio.to_thread(lambda: enrol_face(portrait.read_bytes())) if portrait else None
        sound = await asyncio.to_thread(lambda: enrol_voice(voice.read_bytes())) if voice else None
        await IdentityStore(planes.events).add(record, face=face, voice=sound)
    emit(
        {"id": record.id, "kinds": list(kinds)},
        as_json=as_json,
        human=lambda console: console.print(f"identity {record.id} ({', '.join(kinds)}): {label}"),
    )


@identity.command("list")
@json_option
def list_identities(*, as_json: bool) -> None:
    """List identities with their consent."""
    run(_list(as_json=as_json))


async def _list(*, as_json: bool) -> None:
    async with connected(start(role="cli")) as planes:
        records = await IdentityStore(planes.events).everyone()
    rows = [
        {
            "id": record.id,
            "label": record.label,
            "kinds": list(record.kinds),
            "subject": record.consent.subject,
            "granted_to": record.consent.granted_to,
            "expires": datetime.fromtimestamp(record.consent.expires_ms / 1000, UTC).date().isoformat(),
            "revoked": record.revoked,
        }
        for record in records
    ]

    def human(console: Console) -> None:
        table = Table("id", "label", "kinds", "subject", "granted to", "expires", "revoked")
        for record in rows:
            cells = (", ".join(value) if isinstance(value, list) else str(value) for value in record.values())
            table.add_row(*map(escape, cells))  # labels are what people like them to be
        console.print(table if rows else "no identities")

    emit(rows, as_json=as_json, human=human)


@identity.command()
@click.argument("identity_id")
def revoke(identity_id: str) -> None:
    """Revoke consent: sources and templates are forgotten, sessions that wear it end."""
    run(_revoke(identity_id))


async def _revoke(identity_id: str) -> None:
    settings = start(role="cli")
    async with connected(settings) as planes:
        await IdentityStore(planes.events).revoke(identity_id)
        ended = await session_store(planes, settings).end_wearing(identity_id)
    click.echo(f"revoked {identity_id}; ended {len(ended)} sessions")
