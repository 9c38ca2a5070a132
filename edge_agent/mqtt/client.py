"""One connection to an MQTT 5 broker: connect, publish, subscribe, serve the socket, close.

A Connection lives once and belongs to one thread; the next attempt makes a new one, so nothing of a broken
connection (unsent packets, half-known acknowledgements) can leak into the next. paho-mqtt speaks the
protocol; its own thread, queue and reconnect are not used: the queue is in memory, the reconnect doubles
without jitter, and it ignores the broker's size limit.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import time
from collections.abc import Callable

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.errors import BrokerRefused, BrokerUnreachable
from edge_agent.mqtt import properties, refusals
from edge_agent.mqtt.events import Acked, Event, Granted, Limits, Lost, Message, Will
from edge_agent.mqtt.settings import Endpoint, MqttSettings, endpoint, password, tls_context

__all__ = ["Acked", "Connection", "Granted", "Limits", "Lost", "Message", "MqttSettings", "Will"]

NO_SUBSCRIBERS = 0x10
_ACK_TIMEOUT_S = 30.0
_KEEPALIVE_OVER = ReasonCode(PacketTypes.DISCONNECT, "Keep alive timeout")
_DEFAULT_RECEIVE_MAXIMUM = 65_535  # MQTT 5, 3.2.2.3.3
_PROTOCOL_MAXIMUM = 268_435_455  # MQTT 5, 1.5.5: the largest length a packet can state
_PACKET_OVERHEAD = 64  # fixed header, lengths, packet id and the properties we set, rounded up


class Connection:
    """See the module; every call returns within its time-out."""

    def __init__(
        self,
        settings: MqttSettings,
        *,
        client_id: str,
        will: Will | None = None,
        max_incoming_bytes: int | None = None,
    ) -> None:
        self._settings = settings
        self._where: Endpoint = endpoint(settings.url)
        self._events: list[Event] = []
        self._unacked: dict[int, float] = {}
        self._connack: ReasonCode | None = None
        self._suback: ReasonCode | None = None
        self._lost: Lost | None = None
        self._closing = False
        self._last_error = ""
        self._last_rx = time.monotonic()
        self._asked: dict[int, str] = {}
        self._max_incoming_bytes = max_incoming_bytes
        self.limits = Limits(
            receive_maximum=_DEFAULT_RECEIVE_MAXIMUM, maximum_packet_bytes=_PROTOCOL_MAXIMUM, retain=True
        )
        self._client = self._make_client(client_id)
        if will is not None:
            self._client.will_set(
                will.topic,
                will.payload,
                qos=1,
                retain=True,
                properties=properties.of_message(packet=PacketTypes.WILLMESSAGE),
            )

    def _make_client(self, client_id: str) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
        )
        client.connect_timeout = self._settings.connect_timeout_s
        client.max_inflight_messages_set(0)  # the window is ours: 0 means paho never holds a message back
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_log = self._on_log
        client.on_socket_open = _no_delay
        if self._settings.username:
            client.username_pw_set(self._settings.username, password(self._settings))
        if self._where.tls:
            client.tls_set_context(tls_context(self._settings))
        return client

    # -- life ------------------------------------------------------------------------------------------

    def connect(self) -> Limits:
        """Open the connection and wait for the broker's answer.

        Raises:
            BrokerUnreachable: no answer, not now, or gone again at once.
            BrokerRefused: login, certificate, permission or protocol version refused.
        """
        url = self._settings.url
        try:
            self._client.connect(
                self._where.host,
                self._where.port,
                keepalive=self._settings.keepalive_s,
                clean_start=True,
                properties=properties.of_connection(self._max_incoming_bytes),
            )
        except OSError as error:
            raise refusals.of_socket(url, error) from error
        self._last_rx = time.monotonic()
        self._await(lambda: self._connack is not None)
        answer, lost = self._connack, self._lost
        if answer is None or answer.is_failure:
            self.close()
            cause = lost.cause if lost else None
            raise refusals.of_login(url, answer, cause, self._last_error, link=self._link)
        self._events.clear()
        return self.limits

    @property
    def _link(self) -> refusals.Link:
        if not self._where.tls:
            return "plain"
        return "certified" if self._settings.cert_file else "tls"

    def _await(self, answered: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._settings.connect_timeout_s
        while not answered() and self._lost is None and time.monotonic() < deadline:
            self._serve(min(0.25, max(0.0, deadline - time.monotonic())), None)

    @property
    def alive(self) -> bool:
        """False once the socket is gone."""
        return self._lost is None and self._client.socket() is not None

    @property
    def quiet_s(self) -> float:
        """Since the broker last said anything."""
        return time.monotonic() - self._last_rx

    @property
    def in_flight(self) -> int:
        """QoS 1 publishes that the broker has not acknowledged."""
        return len(self._unacked)

    @property
    def busy(self) -> bool:
        """Bytes wait for the socket: the link is slower than we are."""
        return self._client.want_write()

    def disconnect(self, timeout_s: float = 1.0) -> None:
        """Leave cleanly, so that the broker discards the will; wait until the packet is written."""
        self._closing = True
        if self.alive:
            self._client.disconnect()
        deadline = time.monotonic() + timeout_s
        while self._client.socket() is not None and time.monotonic() < deadline:
            self._serve(0.05, None)
        self.close()

    def close(self) -> None:
        """Drop the socket at once; the broker publishes the will."""
        self._closing = True
        held = self._client.socket()
        if held is not None:
            held.close()

    # -- traffic ---------------------------------------------------------------------------------------

    def fits(self, topic: str, payload: bytes) -> bool:
        """Will the broker accept a packet of that size? It ends the connection otherwise."""
        return len(payload) <= self.payload_room(topic)

    def payload_room(self, topic: str) -> int:
        """Largest payload in bytes that the broker accepts on `topic`."""
        return self.limits.maximum_packet_bytes - len(topic.encode()) - _PACKET_OVERHEAD

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        expiry_s: int | None = None,
        content_type: str = properties.JSON,
        correlation: bytes | None = None,
    ) -> int:
        """Hand a message to the socket; an `Acked` event with the returned number follows for QoS 1."""
        described = (
            properties.of_message(expiry_s, content_type)
            if correlation is None
            else properties.of_answer(expiry_s, content_type, correlation)
        )
        info = self._client.publish(
            topic,
            payload,
            qos=qos,
            retain=retain and self.limits.retain,
            properties=described,
        )
        if qos and info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._unacked[info.mid] = time.monotonic()
        return info.mid

    def subscribe(self, topic_filter: str, *, qos: int = 1) -> None:
        """Ask for messages; they come as `Message` events.

        Raises:
            BrokerRefused: no permission.
            BrokerUnreachable: no answer.
        """
        self._suback = None
        self._client.subscribe(topic_filter, options=SubscribeOptions(qos=qos))
        self._await(lambda: self._suback is not None)
        self._check_granted(topic_filter, self._suback)

    def request(self, topic_filter: str) -> None:
        """Subscribe at QoS 1 without waiting; a `Granted` event tells the answer."""
        _, mid = self._client.subscribe(topic_filter, options=SubscribeOptions(qos=1))
        if mid is not None:
            self._asked[mid] = topic_filter

    def _check_granted(self, topic_filter: str, answer: ReasonCode | None) -> None:
        if answer is None:
            said = self._lost.cause if self._lost else "no answer in time"
            raise BrokerUnreachable(f"subscribing to {topic_filter} failed: {said}", remedy="try again")
        if answer.is_failure:
            raise BrokerRefused(
                f"the broker refused the subscription to {topic_filter}: {answer.getName()}",
                remedy="ask its operator for the permission to read",
            )

    def service(self, timeout_s: float, wake_fd: int | None = None) -> list[Event]:
        """Wait for the socket or `wake_fd` (an eventfd), at most `timeout_s`; serve it and tell what came."""
        self._serve(0.0 if self._events else timeout_s, wake_fd)
        events, self._events = self._events, []
        return events

    def _serve(self, timeout_s: float, wake_fd: int | None) -> None:
        held = self._client.socket()
        if held is None:
            self._give_up("the connection ended")
            return
        poller = select.poll()
        poller.register(held.fileno(), select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
        if wake_fd is not None:
            poller.register(wake_fd, select.POLLIN)
        pending = isinstance(held, ssl.SSLSocket) and held.pending() > 0
        for fd, happened in poller.poll(0 if pending else round(timeout_s * 1000)):
            if fd == wake_fd:
                os.eventfd_read(fd)
            else:
                pending = pending or bool(happened & ~select.POLLOUT)
        if pending:
            self._last_rx = time.monotonic()
            self._client.loop_read()
        if self._client.want_write():
            self._client.loop_write()
        self._client.loop_misc()
        self._check_life()

    def _check_life(self) -> None:
        # paho notices a dead peer after two keepalives; presence promises one and a half.
        now = time.monotonic()
        silent_s = now - self._last_rx
        if silent_s > 1.5 * self._settings.keepalive_s:
            self._give_up(_silent_for(silent_s))
        elif self._unacked and now - next(iter(self._unacked.values())) > _ACK_TIMEOUT_S:
            self._give_up(f"a message was not acknowledged within {_ACK_TIMEOUT_S:.0f} s")

    def _give_up(self, cause: str, *, refused: bool = False) -> None:
        if self._lost is None:
            self._lost = Lost(cause=cause, refused=refused)
            self._events.append(self._lost)
        self.close()

    # -- paho's callbacks, all in the calling thread ------------------------------------------------------

    def _on_connect(
        self,
        _client: paho.Client,
        _userdata: object,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        said: Properties | None,
    ) -> None:
        self._connack = reason
        self.limits = Limits(
            receive_maximum=getattr(said, "ReceiveMaximum", _DEFAULT_RECEIVE_MAXIMUM),
            maximum_packet_bytes=getattr(said, "MaximumPacketSize", _PROTOCOL_MAXIMUM),
            retain=bool(getattr(said, "RetainAvailable", 1)),
        )

    def _on_disconnect(
        self,
        _client: paho.Client,
        _userdata: object,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if self._lost is not None or self._closing:
            return
        by_broker = flags.is_disconnect_packet_from_server
        if by_broker:
            cause = f"the broker ended the connection: {reason.getName()}"
        elif reason == _KEEPALIVE_OVER:  # paho was a moment quicker than `_check_life`
            cause = _silent_for(time.monotonic() - self._last_rx)
        else:
            why = self._last_error.rpartition("socket: ")[2]
            cause = f"the connection was lost: {why}" if why else "the connection was lost"
        refused = by_broker and refusals.is_refusal(reason.value)
        self._lost = Lost(cause=cause, refused=refused)
        self._events.append(self._lost)

    def _on_publish(
        self, _client: paho.Client, _userdata: object, mid: int, reason: ReasonCode, _properties: Properties
    ) -> None:
        if self._unacked.pop(mid, None) is not None:
            self._events.append(Acked(mid=mid, code=reason.value, name=reason.getName()))

    def _on_message(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return  # no topic that we subscribed to
        self._events.append(
            Message(
                topic=topic,
                payload=bytes(message.payload),
                retain=message.retain,
                response_topic=getattr(message.properties, "ResponseTopic", ""),
                correlation=getattr(message.properties, "CorrelationData", None),
            )
        )

    def _on_subscribe(
        self,
        _client: paho.Client,
        _userdata: object,
        mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        asked = self._asked.pop(mid, None)
        if asked is None:
            self._suback = reasons[0]
        else:
            self._events.append(Granted(topic_filter=asked, code=reasons[0].value, name=reasons[0].getName()))

    def _on_log(self, _client: paho.Client, _userdata: object, level: int, text: str) -> None:
        if level == LogLevel.MQTT_LOG_ERR:
            self._last_error = text


def _no_delay(_client: paho.Client, _userdata: object, sock: object) -> None:
    # Without it, a small packet waits for the acknowledgement of the one before, up to 40 ms.
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _silent_for(seconds: float) -> str:
    return f"the broker said nothing for {seconds:.0f} s"
