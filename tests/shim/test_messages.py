"""Messages between the worker and the shim: complete, in order, with their descriptors. Real sockets."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import closing
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.channels import PoorSocket
from tests.support.descriptors import free_descriptors, open_descriptors
from txworker.shim.messages import SHORT, Channel, MessageLost

LONG = "x" * 3_000_000
ODD = os.fsdecode(b"\xff\xfe") + "ü\0\n"


class ChannelTests(SynchronousTestCase):
    def setUp(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setblocking(False)
        self.ours, self.theirs = Channel(ours), Channel(theirs)
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)

    def fill(self) -> int:
        """Send until a message has to wait; returns the number of messages."""
        count = 0
        while not self.ours.full:
            self.ours.send({"type": "filling", "number": count, "text": "x" * 1000})
            count += 1
        return count

    def drain(self) -> list[dict[str, Any]]:
        """Receive everything."""
        found: list[dict[str, Any]] = []
        while True:
            try:
                message, descriptors = self.theirs.receive()
            except BlockingIOError:
                if not self.ours.full:
                    return found
                self.ours.flush()
                continue
            found.append({**message, "descriptors": descriptors})

    def test_as_it_was_sent(self) -> None:
        """Any text of any length arrives; a message that is too long for a datagram goes in a memfd."""
        before = open_descriptors()
        for message in (
            {"type": "a", "n": [1, 2.5, None, True]},
            {"type": ODD},
            {"type": "long", "words": [LONG, ODD]},
        ):
            self.ours.send(message)
            self.assertEqual((message, []), self.theirs.receive())
        self.assertEqual(set(), open_descriptors() - before)

    def test_no_descriptor_free(self) -> None:
        """A message of which descriptors are missing, because the receiver has none free, says so."""
        with open(os.devnull) as file:
            self.ours.send({"type": "a"}, [file.fileno()] * 3)
            self.ours.send({"type": "b"}, [file.fileno()])
            before = open_descriptors()
            with free_descriptors(1):
                short, (fd,) = self.theirs.receive()
                os.close(fd)
                message, (fd,) = self.theirs.receive()
        os.close(fd)
        self.assertEqual({"type": "a", SHORT: True}, short)
        self.assertEqual(({"type": "b"}, set()), (message, open_descriptors() - before))

    def test_no_descriptor_for_a_long_message(self) -> None:
        """A message in a memfd cannot be received without a descriptor."""
        self.ours.send({"type": LONG})
        with free_descriptors(0), self.assertRaises(OSError) as caught:
            self.theirs.receive()
        self.assertEqual(errno.EMFILE, caught.exception.errno)

    def test_descriptors(self) -> None:
        """Descriptors arrive in order, with a long message too, and children do not inherit them."""
        for text in ("short", LONG):
            pipes = [os.pipe() for _ in range(2)]
            self.ours.send({"type": text}, [writing for _, writing in pipes])
            for _, writing in pipes:
                os.close(writing)
            _, came = self.theirs.receive()
            for number, (fd, (reading, _)) in enumerate(zip(came, pipes, strict=True)):
                self.assertFalse(os.get_inheritable(fd))
                os.write(fd, b"%d" % number)
                self.assertEqual(b"%d" % number, os.read(reading, 10))
                os.close(fd)
                os.close(reading)

    def test_nothing_there(self) -> None:
        """Receiving does not block."""
        self.assertRaises(BlockingIOError, self.theirs.receive)

    def test_full(self) -> None:
        """A message that the socket has no room for waits, with its descriptors, and is sent in order."""
        before = open_descriptors()
        count = self.fill()
        reading, writing = os.pipe()
        self.ours.send({"type": "short"}, [writing])
        self.ours.send({"type": "long", "text": LONG}, [writing])
        os.close(writing)
        messages = self.drain()
        self.assertEqual(list(range(count)), [message["number"] for message in messages[:count]])
        short, long = messages[count:]
        self.assertEqual(("short", "long", LONG), (short["type"], long["type"], long["text"]))
        for message in (short, long):
            (fd,) = message["descriptors"]
            os.write(fd, b"x")
            os.close(fd)
        self.assertEqual(b"xx", os.read(reading, 10))
        os.close(reading)
        self.assertEqual(set(), open_descriptors() - before)

    def test_closed_while_full(self) -> None:
        """close() drops the messages that wait, and closes their descriptors."""
        before = open_descriptors()
        self.fill()
        with open(os.devnull) as given:
            self.ours.send({"type": "waits"}, [given.fileno()])
            self.ours.send({"type": "long", "text": LONG}, [given.fileno()])
        self.ours.close()
        self.assertEqual(set(), open_descriptors() - before)

    def test_other_end_is_gone(self) -> None:
        """When the other end is gone, sending and receiving raise OSError; what was sent before is received first."""
        self.ours.send({"type": "last"})
        self.ours.close()
        self.assertEqual(({"type": "last"}, []), self.theirs.receive())
        self.assertRaises(ConnectionResetError, self.theirs.receive)
        self.assertRaises(OSError, self.theirs.send, {"type": "too late"})

    def test_gone_while_full(self) -> None:
        """flush() raises OSError too."""
        self.fill()
        self.theirs.close()
        self.assertRaises(OSError, self.ours.flush)

    def test_no_memory(self) -> None:
        """For want of memory in the kernel no message is lost, and their order is kept; flush() tells the want."""
        before = open_descriptors()
        with closing(PoorSocket(fileno=os.dup(self.ours.fileno()))) as poor, closing(Channel(poor)) as channel:
            poor.poor = True
            channel.send({"type": "a"})
            channel.send({"type": "b"}, [0])
            self.assertTrue(channel.full)
            self.assertRaises(OSError, channel.flush)
            poor.poor = False
            channel.flush()
            self.assertFalse(channel.full)
        self.assertEqual(({"type": "a"}, []), self.theirs.receive())
        message, descriptors = self.theirs.receive()
        self.assertEqual(("b", 1), (message["type"], len(descriptors)))
        os.close(descriptors[0])
        self.assertEqual(set(), open_descriptors() - before)

    def test_unreadable(self) -> None:
        """A long message whose memfd cannot be read is lost, which is told; no descriptor stays open."""
        before = open_descriptors()

        def refuse(*args: Any) -> bytes:
            raise OSError(errno.ENOMEM, "no memory")

        self.patch(os, "pread", refuse)
        self.ours.send({"type": "long", "words": [LONG]}, [0])
        self.assertRaises(MessageLost, self.theirs.receive)
        self.assertEqual(set(), open_descriptors() - before)
