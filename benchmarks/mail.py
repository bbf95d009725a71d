"""Mails per second of one connection at several round trips, by the engine and by smtplib, with STARTTLS and AUTH.

``python benchmarks/mail.py [--seconds 4] [--round-trips 0 20 100] [--memory 50000]``. Server and network run in a
process of their own: the sink of the mail plugin behind a proxy that delays each packet by half a round trip, and a new
connection by a whole one. The factors compare with a new smtplib connection per mail, which is how privacyIDEA sends.

With ``--memory``, instead: so many mails by the engine, and the memory of its process meanwhile (Linux).

With ``--product``, instead: from ``send_mail`` in the request to the server's word, by a worker process on a private
Redis, beside plain huey as privacyIDEA sets it, and Celery where it is installed, whose jobs send by smtplib. Rounds of
``--mails`` in turns, of which the median counts; and the processor time of the worker for a mail, and of the request
(Linux).
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import importlib.util
import ipaddress
import logging
import multiprocessing
import os
import shutil
import smtplib
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.pop(0)  # this folder: a module "queue" in it would hide the one of the standard library

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pijobs_mail.engine.delivery import Endpoint, Mail
from pijobs_mail.engine.pool import Pool
from pijobs_mail.sink.server import Received, Sink

sys.path.insert(0, str(Path(__file__).resolve().parent / "jobs"))

import bench_mails
from postbox import Postbox

LOGIN = ("user", "hunter2")
SENDER, RECIPIENT = "otp@example.com", "alice@example.com"
CONTENT = b"Subject: Your code\r\nFrom: otp@example.com\r\nTo: alice@example.com\r\n\r\nYour code is 739105\r\n"
WAYS: dict[str, tuple[str, ...]] = {"neither": (), "PIPELINING": ("PIPELINING",), "both": ("PIPELINING", "CHUNKING")}


class Forgetful(Sink):
    """Keeps no mail: the server's memory is not what is measured."""

    def keep(self, received: Received) -> None:
        pass


def certificate(path: Path) -> None:
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.timezone.utc)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).add_extension(host, critical=False)
    signed = builder.not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(1))
    made = signed.sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(secret + made.public_bytes(pem))


async def _delayed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    loop = asyncio.get_running_loop()
    with suppress(ConnectionError):  # who has said good-bye may hang up at once
        while content := await reader.read(65536):
            if delay:
                loop.call_later(delay, writer.write, content)
            else:
                writer.write(content)
    loop.call_later(delay, writer.close)


async def _proxies(upstream: dict[str, int], round_trips: list[float], pipe: Connection) -> None:
    ports = {}
    for way, port in upstream.items():
        for trip in round_trips:

            async def meet(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int = port, trip: float = trip
            ) -> None:
                await asyncio.sleep(trip)
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
                there, back = _delayed(reader, far_writer, trip / 2), _delayed(far_reader, writer, trip / 2)
                await asyncio.gather(there, back, return_exceptions=True)

            server = await asyncio.start_server(meet, "127.0.0.1", 0)
            ports[way, trip] = server.sockets[0].getsockname()[1]
    pipe.send(ports)
    await asyncio.Event().wait()


def serve(pem: str, round_trips: list[float], pipe: Connection) -> None:
    logging.disable()  # aiosmtpd's words about itself
    upstream = {}
    for way, offers in WAYS.items():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        upstream[way] = Forgetful(tls=context, logins=dict([LOGIN]), offers=offers).start().port
    asyncio.run(_proxies(upstream, round_trips, pipe))


def per_second(send: Callable[[], object], seconds: float) -> float:
    send()
    started, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - started) < seconds:
        send()
        count += 1
    return count / passed


def opened(port: int, context: ssl.SSLContext) -> smtplib.SMTP:
    smtp = smtplib.SMTP("127.0.0.1", port)
    smtp.starttls(context=context)
    smtp.login(*LOGIN)
    return smtp


def new_connection(port: int, context: ssl.SSLContext) -> None:
    with opened(port, context) as smtp:
        smtp.sendmail(SENDER, [RECIPIENT], CONTENT)


def endpoint(port: int, pem: str, mails: int = 100) -> Endpoint:
    return Endpoint(
        host="127.0.0.1", port=port, security="starttls", username=LOGIN[0], password=LOGIN[1], ca_file=pem,
        mails=mails,
    )  # fmt: skip


def resident() -> float:
    """Megabytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def remember(port: int, pem: str, mails: int) -> None:
    place, pool, mail = endpoint(port, pem), Pool(), Mail(SENDER, (RECIPIENT,), CONTENT)
    started = time.perf_counter()
    for number in range(1, mails + 1):
        pool.deliver(place, mail)
        if number % (mails // 10) == 0 or number == mails // 50:
            print(f"{number:8} mails  {resident():6.1f} MB  {number / (time.perf_counter() - started):7.1f} mails/s")
    pool.close()


def measure(ports: dict[tuple[str, float], int], trip: float, pem: str, seconds: float) -> None:
    context = ssl.create_default_context(cafile=pem)
    results = {"smtplib, new": per_second(lambda: new_connection(ports["both", trip], context), seconds)}
    with opened(ports["both", trip], context) as smtp:
        results["smtplib, kept"] = per_second(lambda: smtp.sendmail(SENDER, [RECIPIENT], CONTENT), seconds)
    mail = Mail(SENDER, (RECIPIENT,), CONTENT)
    for way, mails in (*((way, 100) for way in WAYS), ("both", 10)):
        place, pool = endpoint(ports[way, trip], pem, mails), Pool()
        results[f"engine, {way}, {mails} a connection"] = per_second(
            lambda pool=pool, place=place: pool.deliver(place, mail, share=1), seconds
        )  # type: ignore[misc]
        pool.close()
    slowest = results["smtplib, new"]
    for name, rate in results.items():
        print(f"{trip * 1000:5.0f} ms  {name:38}  {rate:8.1f} mails/s  {rate / slowest:5.1f} x")


@contextmanager
def private_redis(folder: Path) -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("no redis-server on the PATH")
    place = folder / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(place), "--save", "", "--dir", str(folder), "--loglevel", "warning"]
    server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    try:
        while not place.exists():
            time.sleep(0.01)
        yield f"unix://{place}"
    finally:
        server.terminate()
        server.wait()


def compare_products(trip: float, pem: str, folder: Path, url: str, options: argparse.Namespace) -> None:
    """Rows of one round trip."""
    boxes = {way: Postbox(pem, without, trip) for way, without in (("", ()), (", no CHUNKING", ("CHUNKING",)))}
    servers = [multiprocessing.Process(target=box.serve, daemon=True) for box in boxes.values()]
    for server in servers:
        server.start()
    kinds: list[tuple[bench_mails.Huey | bench_mails.Pijobs, Postbox]] = []
    for threads in options.threads:
        kinds += [(bench_mails.Pijobs(url, folder, box.port, pem, threads, way), box) for way, box in boxes.items()]
    huey = bench_mails.Huey(url, folder, boxes[""].port, pem, options.threads[0])
    kinds.insert(0, (huey, boxes[""]))
    if importlib.util.find_spec("celery"):
        kinds.insert(1, (bench_mails.Celery(url, folder, boxes[""].port, pem, options.threads[0]), boxes[""]))
    rounds: dict[str, list[tuple[float, float]]] = {kind.name: [] for kind, _ in kinds}
    for _ in range(options.rounds):
        for kind, box in kinds:
            mails = options.mails // (4 if trip and isinstance(kind, bench_mails.Huey) else 1)
            rounds[kind.name].append(bench_mails.sent(kind, lambda box=box: box.accepted.value, mails))
    slowest = statistics.median(rate for rate, _ in rounds[huey.name])
    for name, found in rounds.items():
        rate, used = (statistics.median(values) for values in zip(*found, strict=True))
        place = f"{trip * 1000:5.0f} ms  {name:30}"
        print(f"{place}  {rate:8.1f} mails/s  {rate / slowest:5.2f} x  {used:6.2f} ms of the worker's processor")
    if not trip:
        sender = next(kind for kind, _ in kinds if isinstance(kind, bench_mails.Pijobs))
        for name, used in bench_mails.request_times(sender).items():
            print(f"          {name:30}  {used:8.3f} ms of the request's processor")
    for server in servers:
        server.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each line")
    parser.add_argument("--round-trips", type=float, nargs="+", default=[0.0, 20.0, 100.0], help="milliseconds")
    parser.add_argument("--memory", type=int, metavar="MAILS", help="send so many, and look at the memory")
    parser.add_argument("--product", action="store_true", help="from the request to the server, beside plain huey")
    parser.add_argument("--mails", type=int, default=1000, help="of a round (default 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts (default 3)")
    parser.add_argument("--threads", type=int, nargs="+", default=[8], help="of the worker; huey takes the first")
    options = parser.parse_args()
    trips = [0.0] if options.memory else [trip / 1000 for trip in options.round_trips]
    with tempfile.TemporaryDirectory() as directory:
        pem = str(Path(directory) / "server.pem")
        certificate(Path(pem))
        if options.product:
            with private_redis(Path(directory)) as url:
                for trip in options.round_trips:
                    compare_products(trip / 1000, pem, Path(directory), url, options)
            return
        ours, theirs = multiprocessing.Pipe()
        server = multiprocessing.Process(target=serve, args=(pem, trips, theirs), daemon=True)
        server.start()
        ports = ours.recv()
        if options.memory:
            remember(ports["both", 0.0], pem, options.memory)
        else:
            for trip in trips:
                measure(ports, trip, pem, options.seconds)
        server.terminate()


if __name__ == "__main__":
    main()
