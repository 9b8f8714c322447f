"""Counters of a server for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The Prometheus metrics of one API application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.seconds = Histogram(
            "dcp_request_seconds", "Time from a request's head to its answer.", ["path", "status"],
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self.received = Counter("dcp_received_bytes", "Bytes of request bodies.", registry=self.registry)
        self.sent = Counter("dcp_sent_bytes", "Bytes of answers.", registry=self.registry)
        self.refused = Counter(
            "dcp_refused_requests", "Requests that got no answer, by HTTP status; `gone`: the client disconnected.",
            ["reason"], registry=self.registry,
        )  # fmt: skip
        self.held = Gauge("dcp_held_bytes", "Bytes of bodies that are not decoded yet.", registry=self.registry)
        self.waiting = Gauge("dcp_waiting_requests", "Requests that wait for a turn.", registry=self.registry)
        self.pictures = Gauge(
            "dcp_pictures", "Pictures by client since the start.", ["client"], registry=self.registry
        )
        self.uncertain = Gauge(
            "dcp_uncertain_share", "Share of answers below tau.", ["client"], registry=self.registry
        )
        self.prada = Gauge("dcp_prada_w", "W of PRADA; low for attacks.", ["client"], registry=self.registry)
        self.alarm = Gauge(
            "dcp_alarm", "1 for clients that look like an attack.", ["client"], registry=self.registry
        )

    def clients(self, rows: list[dict[str, object]]) -> None:
        """Set the gauges of clients; those that were forgotten disappear."""
        for gauge, column in (
            (self.pictures, "pictures"), (self.uncertain, "uncertain_share"),
            (self.prada, "prada_w"), (self.alarm, "alarm"),
        ):  # fmt: skip
            gauge.clear()
            for row in rows:
                if row[column] is not None:
                    gauge.labels(str(row["client"])).set(float(row[column]))  # type: ignore[arg-type]

    def page(self) -> bytes:
        """All of them in the text format of Prometheus."""
        return generate_latest(self.registry)
