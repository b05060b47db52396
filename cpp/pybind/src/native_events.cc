// Native frames that carry events, for the gateway's listener and for the Python client. No sockets.
#include "native_events.h"
#include "event_tuple.h"

#include <pybind11/stl.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "convert.h"
#include "errors.h"
#include "millstream/engine/database.h"
#include "millstream/engine/native_events.h"
#include "millstream/wire/native_events.h"
#include "module.h"
#include "notifier.h"

namespace millstream::pybind {

namespace py = pybind11;

namespace {

using engine::Database;
using engine::NativeTail;
using Released = py::call_guard<py::gil_scoped_release>;

StatusCode ErrorCodeOf(int code) {
  if (code < 1 || code > static_cast<int>(StatusCode::kUnauthenticated)) {
    throw StatusError(InvalidArgument("{} is no code of an error", code));
  }
  return static_cast<StatusCode>(code);
}

// --- the server's side ---

py::list TopicsOf(const std::vector<std::string>& topics) {
  py::list out;
  for (const std::string& topic : topics) out.append(EscapedText(topic));
  return out;
}

py::tuple PublishHead(const py::bytes& payload) {
  const engine::NativePublishHead head = ValueOrThrow(engine::ReadNativePublishHead(BytesView(payload)));
  return py::make_tuple(head.sequence, TopicsOf(head.topics), head.events);
}

py::tuple SubscribeHead(const py::bytes& payload) {
  const engine::NativeSubscribeHead head = ValueOrThrow(engine::ReadNativeSubscribeHead(BytesView(payload)));
  return py::make_tuple(head.subscription, TopicsOf(head.topics));
}

py::tuple CreditOf(const py::bytes& payload) {
  const engine::NativeCreditGiven credit = ValueOrThrow(engine::ReadNativeCredit(BytesView(payload)));
  return py::make_tuple(credit.subscription, credit.events);
}

py::tuple FetchHead(const py::bytes& payload) {
  const wire::NativeFetch fetch = ValueOrThrow(wire::DecodeNativeFetch(BytesView(payload)));
  return py::make_tuple(fetch.sequence, Text(fetch.topic));
}

py::list PublishNative(Database& self, const std::vector<py::bytes>& frames,
                       const std::map<std::string, std::tuple<int, std::string>>& forbidden, uint32_t tenant,
                       std::optional<uint64_t> series_max) {
  std::vector<engine::NativePublishOutcome> outcomes;
  std::vector<std::string_view> payloads;
  for (const py::bytes& frame : frames) payloads.push_back(BytesView(frame));
  std::map<std::string, Status> refused;
  for (const auto& [topic, why] : forbidden)
    refused.emplace(topic, Status(ErrorCodeOf(std::get<0>(why)), std::get<1>(why)));
  {
    const py::gil_scoped_release released;
    if (series_max.has_value()) self.LimitSeries(TenantId(tenant), *series_max);
    outcomes = ValueOrThrow(engine::PublishNative(self.Events(), TenantId(tenant), payloads, refused));
  }
  py::list out;
  for (const engine::NativePublishOutcome& outcome : outcomes) {
    out.append(py::make_tuple(Bytes(outcome.answer), outcome.stored, outcome.refused));
  }
  return out;
}

py::bytes FetchNative(Database& self, const py::bytes& frame, uint32_t tenant) {
  const std::string payload(BytesView(frame));
  std::string answer;
  {
    const py::gil_scoped_release released;
    answer = ValueOrThrow(engine::FetchNative(self.Events(), TenantId(tenant), payload));
  }
  return Bytes(answer);
}

std::unique_ptr<NativeTail> SubscribeNative(Database& self, const py::bytes& frame,
                                            const std::optional<std::vector<std::string>>& topics, FdNotifier& notifier,
                                            uint32_t tenant) {
  const std::string payload(BytesView(frame));
  const py::gil_scoped_release released;
  return ValueOrThrow(NativeTail::Open(self.Events(), TenantId(tenant), payload, topics, notifier.notifier()));
}

py::bytes NextOf(NativeTail& self) {
  std::string frame;
  {
    const py::gil_scoped_release released;
    frame = ValueOrThrow(self.Next());
  }
  return Bytes(frame);
}

// --- the client's side ---

// Views into the tuples, which the caller keeps.
wire::NativePublish PublishOf(uint64_t sequence, const py::sequence& items, bool wants_ids, const std::string& producer,
                              uint32_t epoch) {
  wire::NativePublish out{
      .sequence = sequence, .wants_ids = wants_ids, .producer = producer, .epoch = epoch, .batch = {}};
  std::unordered_map<std::string_view, uint32_t> topics;
  for (const auto& item : items) {
    const auto fields = py::reinterpret_borrow<py::tuple>(item);
    if (!py::isinstance<py::tuple>(item) || fields.size() != kEventFields) {
      throw StatusError(InvalidArgument("an event is a tuple of {} fields", kEventFields));
    }
    const std::string_view topic = TextView(fields[0]);
    const auto [place, inserted] = topics.try_emplace(topic, static_cast<uint32_t>(topics.size()));
    if (inserted) out.batch.topics.push_back(topic);
    wire::NativeEvent& event = out.batch.events.emplace_back();
    event.topic = place->second;
    event.payload = BytesOf(fields[1]);
    event.is_json = fields[2].cast<bool>();
    if (!fields[3].is_none()) event.key = BytesOf(fields[3]);
    for (const auto& header : fields[4]) {
      const auto pair = py::reinterpret_borrow<py::tuple>(header);
      if (!py::isinstance<py::tuple>(header) || pair.size() != 2) {
        throw StatusError(InvalidArgument("a header is a pair of a name and bytes"));
      }
      event.headers.emplace_back(TextView(pair[0]), BytesOf(pair[1]));
    }
    if (!fields[5].is_none()) event.timestamp = fields[5].cast<int64_t>();
    if (!fields[6].is_none()) event.id = TextView(fields[6]);
    if (!fields[7].is_none()) event.partition = fields[7].cast<uint32_t>();
    if (!fields[8].is_none()) event.number = fields[8].cast<uint64_t>();
  }
  return out;
}

void CheckEvents(const py::sequence& items) {
  if (items.size() > wire::kNativeEventsMax) {
    throw StatusError(ResourceExhausted("{} events; the limit is {}", items.size(), wire::kNativeEventsMax));
  }
}

py::bytes PublishFrame(uint64_t sequence, const py::sequence& events, bool wants_ids, const std::string& producer,
                       uint32_t epoch) {
  CheckEvents(events);
  const py::tuple kept(events);
  return Bytes(ValueOrThrow(EncodeNative(PublishOf(sequence, kept, wants_ids, producer, epoch))));
}

wire::NativeFrom FromOf(const std::string& name) {
  if (name == "latest") return wire::NativeFrom::kLatest;
  if (name == "earliest") return wire::NativeFrom::kEarliest;
  if (name == "timestamp") return wire::NativeFrom::kTimestamp;
  if (name == "offset") return wire::NativeFrom::kOffset;
  throw StatusError(InvalidArgument("\"{}\" is no place to begin at", name));
}

py::bytes FetchFrame(uint64_t sequence, const std::string& topic, uint32_t partition, const std::string& from,
                     int64_t at, uint64_t limit, uint64_t bytes_max) {
  return Bytes(EncodeNative(wire::NativeFetch{.sequence = sequence,
                                              .topic = topic,
                                              .partition = partition,
                                              .from = FromOf(from),
                                              .at = static_cast<uint64_t>(at),
                                              .limit = limit,
                                              .bytes_max = bytes_max}));
}

py::bytes SubscribeFrame(uint64_t subscription, const std::vector<std::string>& topics, const std::string& from,
                         int64_t timestamp, const std::vector<std::tuple<uint32_t, uint32_t, uint64_t>>& offsets,
                         uint8_t on_slow, uint64_t lag_max, const std::string& filter, uint64_t credit) {
  wire::NativeSubscribe out{.subscription = subscription,
                            .topics = {topics.begin(), topics.end()},
                            .from = FromOf(from),
                            .timestamp = timestamp,
                            .offsets = {},
                            .on_slow = on_slow,
                            .lag_max = lag_max,
                            .filter = filter,
                            .credit = credit};
  for (const auto& [topic, partition, offset] : offsets) out.offsets.push_back({topic, partition, offset});
  return Bytes(ValueOrThrow(EncodeNative(out)));
}

py::list EventTuples(const wire::NativeEventBatch& batch) {
  std::vector<py::str> topics;
  for (const std::string_view topic : batch.topics) topics.push_back(Text(topic));
  py::list out;
  for (const wire::NativeEvent& event : batch.events) {
    py::object key = py::none();
    if (event.key) key = Bytes(*event.key);
    py::list headers;
    for (const auto& [name, value] : event.headers) headers.append(py::make_tuple(Text(name), Bytes(value)));
    out.append(py::make_tuple(Text(event.id), topics[event.topic], event.partition.value_or(0),
                              event.number.value_or(0), event.timestamp.value_or(0), key, headers, Bytes(event.payload),
                              event.is_json));
  }
  return out;
}

py::tuple PublishedTuple(const wire::NativePublished& published) {
  py::list runs;
  for (const wire::NativePublishedRun& run : published.runs) {
    py::list ids;
    for (const std::string_view id : run.ids) ids.append(Text(id));
    runs.append(py::make_tuple(run.count, static_cast<int>(run.code), Text(run.reason), run.status, run.partition,
                               run.offset, ids));
  }
  return py::make_tuple("published", published.sequence, runs);
}

py::bytes EncodeEventDatagram(uint64_t client, uint64_t sequence, const std::string& key, const std::string& tenant,
                              const py::sequence& events) {
  CheckEvents(events);
  const py::tuple kept(events);
  const std::string frame = ValueOrThrow(EncodeNative(PublishOf(0, kept, false, "", 0)));
  return Bytes(ValueOrThrow(
      wire::EncodeNativeEventDatagram({.client = client,
                                       .sequence = sequence,
                                       .key = key,
                                       .tenant = tenant,
                                       .publish = std::string_view(frame).substr(wire::kNativeFrameHeaderBytes)})));
}

py::object DecodeEventDatagram(const py::bytes& bytes) {
  if (!wire::IsNativeEventDatagram(BytesView(bytes))) return py::none();
  const wire::NativeEventDatagram datagram = ValueOrThrow(wire::DecodeNativeEventDatagram(BytesView(bytes)));
  return py::make_tuple(datagram.client, datagram.sequence, Text(datagram.key), Text(datagram.tenant),
                        Bytes(datagram.publish));
}

}  // namespace

py::object EventAnswer(const wire::NativeFrame& frame) {
  switch (frame.type) {
    case wire::NativeType::kPublished:
      return PublishedTuple(ValueOrThrow(wire::DecodeNativePublished(frame.payload)));
    case wire::NativeType::kFetched: {
      const wire::NativeFetched fetched = ValueOrThrow(wire::DecodeNativeFetched(frame.payload));
      return py::make_tuple("fetched", fetched.sequence, EventTuples(fetched.batch), fetched.next_offset,
                            fetched.end_offset);
    }
    case wire::NativeType::kSubscribed: {
      const wire::NativeSubscribed subscribed = ValueOrThrow(wire::DecodeNativeSubscribed(frame.payload));
      py::list starts;
      for (const wire::NativeStart& start : subscribed.offsets) {
        starts.append(py::make_tuple(Text(subscribed.topics[start.topic]), start.partition, start.offset));
      }
      return py::make_tuple("subscribed", subscribed.subscription, starts);
    }
    case wire::NativeType::kDelivered: {
      const wire::NativeDelivered delivered = ValueOrThrow(wire::DecodeNativeDelivered(frame.payload));
      return py::make_tuple("delivered", delivered.subscription, EventTuples(delivered.batch), delivered.dropped);
    }
    case wire::NativeType::kEnded: {
      const wire::NativeEnded ended = ValueOrThrow(wire::DecodeNativeEnded(frame.payload));
      return py::make_tuple("ended", ended.subscription, static_cast<int>(ended.code), Text(ended.reason));
    }
    default:
      return {};
  }
}

void RegisterNativeEvents(py::module_& module, py::class_<Database>& engine) {
  const uint32_t default_tenant = engine::kDefaultTenant.value();
  module.def("native_publish_head", &PublishHead, py::arg("payload"), "(sequence, topics, events).");
  module.def("native_fetch_head", &FetchHead, py::arg("payload"), "(sequence, topic).");
  module.def("native_subscribe_head", &SubscribeHead, py::arg("payload"), "(subscription, topics).");
  module.def("native_credit", &CreditOf, py::arg("payload"), "(subscription, events).");
  module.def(
      "native_unsubscribe",
      [](const py::bytes& payload) { return ValueOrThrow(engine::ReadNativeUnsubscribe(BytesView(payload))); },
      py::arg("payload"));
  module.def(
      "native_ended",
      [](uint64_t subscription, int code, const std::string& reason) {
        const Status why = code == 0 ? Status::Ok() : Status(ErrorCodeOf(code), reason);
        return Bytes(engine::NativeEndedFrame(subscription, why));
      },
      py::arg("subscription"), py::arg("code"), py::arg("reason"));

  py::class_<NativeTail>(module, "NativeTail", "One subscription of a connection of native frames.")
      .def_property_readonly("subscription", &NativeTail::subscription)
      .def_property_readonly("token", &NativeTail::token)
      .def_property_readonly("has_more", &NativeTail::has_more)
      .def("welcome", [](const NativeTail& self) { return Bytes(self.Welcome()); })
      .def("add_credit", &NativeTail::AddCredit, py::arg("events"))
      .def("next", &NextOf, "The next frame; empty when there is nothing to send.")
      .def("close", &NativeTail::Close, Released());

  engine
      .def("publish_native", &PublishNative, py::arg("payloads"), py::arg("forbidden"), py::kw_only(),
           py::arg("tenant") = default_tenant, py::arg("series_max") = py::none(),
           "Payloads of publish frames, stored together; of each (answering frame, stored, refused). `forbidden` has a "
           "code and a reason by topic.")
      .def("fetch_native", &FetchNative, py::arg("payload"), py::kw_only(), py::arg("tenant") = default_tenant)
      .def("subscribe_native", &SubscribeNative, py::arg("payload"), py::arg("topics"), py::arg("notifier"),
           py::kw_only(), py::arg("tenant") = default_tenant);

  module.def("native_publish", &PublishFrame, py::arg("sequence"), py::arg("events"), py::kw_only(),
             py::arg("wants_ids") = false, py::arg("producer") = "", py::arg("epoch") = 0,
             "Events as (topic, payload, is_json, key, headers, timestamp_ms, id, partition, number).");
  module.def("native_fetch", &FetchFrame, py::arg("sequence"), py::arg("topic"), py::arg("partition"), py::kw_only(),
             py::arg("begin"), py::arg("at"), py::arg("limit"), py::arg("bytes_max"));
  module.def("native_subscribe", &SubscribeFrame, py::arg("subscription"), py::arg("topics"), py::kw_only(),
             py::arg("begin"), py::arg("timestamp"), py::arg("offsets"), py::arg("on_slow"), py::arg("lag_max"),
             py::arg("filter"), py::arg("credit"));
  module.def(
      "native_credit_frame",
      [](uint64_t subscription, uint64_t events) {
        return Bytes(EncodeNative(wire::NativeCredit{subscription, events}));
      },
      py::arg("subscription"), py::arg("events"));
  module.def(
      "native_unsubscribe_frame",
      [](uint64_t subscription) { return Bytes(EncodeNative(wire::NativeUnsubscribe{subscription})); },
      py::arg("subscription"));
  module.def("native_event_datagram", &EncodeEventDatagram, py::arg("client"), py::arg("sequence"), py::arg("key"),
             py::arg("tenant"), py::arg("events"));
  module.def("native_event_datagram_parts", &DecodeEventDatagram, py::arg("data"),
             "(client, sequence, key, tenant, publish payload); none when it is another datagram.");
}

}  // namespace millstream::pybind
