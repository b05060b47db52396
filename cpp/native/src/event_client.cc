#include "millstream/native/event_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/ip/udp.hpp>
#include <deque>
#include <map>
#include <set>
#include <unordered_map>
#include <utility>
#include <variant>

#include "connection.h"
#include "millstream/env/env.h"
#include "millstream/wire/native_events.h"
#include "millstream/wire/native_frame.h"

namespace millstream::native {
namespace {

uint64_t RandomNumber() {
  uint64_t number = 0;
  env::SystemEnv().random->Fill(std::as_writable_bytes(std::span(&number, 1)));
  return number;
}

// Views into the events.
wire::NativePublish PublishOf(uint64_t sequence, const Producer& producer, std::span<const Event> events) {
  wire::NativePublish out{
      .sequence = sequence, .wants_ids = false, .producer = producer.id, .epoch = producer.epoch, .batch = {}};
  std::unordered_map<std::string_view, uint32_t> topics;
  for (const Event& event : events) {
    const auto [place, inserted] = topics.try_emplace(event.topic, static_cast<uint32_t>(topics.size()));
    if (inserted) out.batch.topics.push_back(event.topic);
    wire::NativeEvent& to = out.batch.events.emplace_back();
    to.topic = place->second;
    to.is_json = event.is_json;
    if (event.key) to.key = *event.key;
    to.timestamp = event.timestamp;
    to.id = event.id;
    to.partition = event.partition;
    to.number = event.sequence;
    for (const auto& [name, value] : event.headers) to.headers.emplace_back(name, value);
    to.payload = event.payload;
  }
  return out;
}

ReceivedEvent Received(const wire::NativeEventBatch& batch, const wire::NativeEvent& event) {
  ReceivedEvent out{.id = std::string(event.id),
                    .topic = std::string(batch.topics[event.topic]),
                    .partition = event.partition.value_or(0),
                    .offset = event.number.value_or(0),
                    .timestamp = event.timestamp.value_or(0),
                    .is_json = event.is_json,
                    .key = {},
                    .headers = {},
                    .payload = std::string(event.payload)};
  if (event.key) out.key = std::string(*event.key);
  for (const auto& [name, value] : event.headers) out.headers.emplace_back(name, value);
  return out;
}

}  // namespace

class EventClient::Impl {
 public:
  Impl(ClientOptions options, std::optional<Producer> producer)
      : options_(std::move(options)),
        producer_(std::move(producer).value_or(Producer())),
        prefix_(fmt::format("{:016x}-", RandomNumber())) {}

  Status Open() {
    return WaitUntil([this] { return open(); });
  }
  int connections() const { return connections_; }

  Status Publish(std::span<const Event> events) {
    const bool numbered = !producer_.id.empty();
    for (const Event& event : events) {
      if (event.sequence.has_value() != numbered) {
        return InvalidArgument(
            "{}", numbered ? "an event of a producer needs a sequence" : "only a producer's events have sequences");
      }
      // The connection would not outlive it.
      if (event.topic.size() > wire::kNativeTextBytesMax) {
        return InvalidArgument("a topic's name of {} bytes", event.topic.size());
      }
    }
    for (size_t begin = 0; begin < events.size(); begin += kEventsUnderWayMax) {
      const auto part = events.subspan(begin, std::min(kEventsUnderWayMax, events.size() - begin));
      std::vector<Event> batch(part.begin(), part.end());
      for (Event& event : batch) {
        if (event.id.empty() && !numbered) event.id = prefix_ + std::to_string(++next_id_);
      }
      MS_RETURN_IF_ERROR(SendBatch(std::move(batch)));
    }
    return Status::Ok();
  }

  Result<EventTotals> Flush() {
    MS_RETURN_IF_ERROR(WaitUntil([this] { return unanswered_.empty() && waiting_.empty(); }));
    return totals_;
  }

  Result<FetchedEvents> Fetch(const FetchRequest& request) {
    const uint64_t at = request.from == From::kTimestamp ? static_cast<uint64_t>(request.timestamp) : request.offset;
    while (true) {
      MS_RETURN_IF_ERROR(Open());
      const int connection = connections_;
      fetch_ = ++sequence_;
      fetched_.reset();
      SendOrBreak(EncodeNative(wire::NativeFetch{.sequence = fetch_,
                                                 .topic = request.topic,
                                                 .partition = request.partition,
                                                 .from = OnWire(request.from),
                                                 .at = at,
                                                 .limit = request.limit,
                                                 .bytes_max = request.bytes_max}));
      // Of a connection that broke no answer comes: asked again.
      MS_RETURN_IF_ERROR(WaitUntil([&] { return fetched_.has_value() || connections_ != connection; }));
      if (fetched_) return std::exchange(fetched_, std::nullopt).value();
    }
  }

  Result<uint64_t> Follow(FollowRequest request) {
    if (request.credit == 0) return InvalidArgument("a subscription without credit gets nothing");
    Followed wanted;
    wanted.wanted = std::move(request);
    MS_RETURN_IF_ERROR(SubscribeFrame(subscription_ + 1, wanted).status());
    MS_RETURN_IF_ERROR(Open());
    const uint64_t number = ++subscription_;
    Followed& followed = followed_[number] = std::move(wanted);
    if (!Resume(number, followed).ok()) connection_.reset();
    Status status = WaitUntil([&] { return followed.stands || followed.ended.has_value(); });
    if (status.ok() && followed.ended) status = Why(*followed.ended);
    if (status.ok()) return number;
    followed_.erase(number);
    return status;
  }

  Result<std::vector<ReceivedEvent>> Poll(uint64_t number, size_t limit, int wait_ms) {
    MS_ASSIGN_OR_RETURN(Followed* const followed, Find(number));
    if (followed->events.empty() && !followed->ended) MS_RETURN_IF_ERROR(WaitForEvents(*followed, wait_ms));
    if (followed->events.empty() && followed->ended) return Why(*followed->ended);
    std::vector<ReceivedEvent> out;
    while (!followed->events.empty() && out.size() < limit) {
      out.push_back(std::move(followed->events.front()));
      followed->events.pop_front();
    }
    for (const ReceivedEvent& event : out) followed->position[event.topic][event.partition] = event.offset + 1;
    followed->taken += out.size();
    if (followed->taken >= (followed->wanted.credit + 1) / 2 && open() && !followed->ended) {
      SendOrBreak(EncodeNative(wire::NativeCredit{number, std::exchange(followed->taken, 0)}));
    }
    return out;
  }

  Result<Offsets> Position(uint64_t number) {
    MS_ASSIGN_OR_RETURN(const Followed* const followed, Find(number));
    return followed->position;
  }

  Result<uint64_t> Dropped(uint64_t number) {
    MS_ASSIGN_OR_RETURN(const Followed* const followed, Find(number));
    return followed->dropped;
  }

  Status Unfollow(uint64_t number) {
    MS_RETURN_IF_ERROR(Find(number).status());
    followed_.erase(number);
    if (open()) SendOrBreak(EncodeNative(wire::NativeUnsubscribe{number}));
    return Status::Ok();
  }

 private:
  struct Followed {
    FollowRequest wanted;
    bool stands = false;
    std::optional<Status> ended;
    Offsets next;      // after what has come
    Offsets position;  // after what was taken
    std::deque<ReceivedEvent> events;
    uint64_t dropped = 0;
    uint64_t taken = 0;  // since the server was given credit
  };

  static wire::NativeFrom OnWire(From from) {
    switch (from) {
      case From::kLatest:
        return wire::NativeFrom::kLatest;
      case From::kEarliest:
        return wire::NativeFrom::kEarliest;
      case From::kTimestamp:
        return wire::NativeFrom::kTimestamp;
      case From::kOffset:
        break;
    }
    return wire::NativeFrom::kOffset;
  }

  static Status Why(const Status& ended) { return ended.ok() ? Unavailable("the subscription ended") : ended; }

  Result<Followed*> Find(uint64_t number) {
    const auto found = followed_.find(number);
    if (found == followed_.end()) return NotFound("there is no subscription {}", number);
    return &found->second;
  }

  // What cannot be sent now goes, or is asked, with the next connection.
  void SendOrBreak(std::string_view frame) {
    if (!connection_->Send(frame).ok()) connection_.reset();
  }

  bool open() const { return connection_ != nullptr; }

  Status SendBatch(std::vector<Event> batch) {
    MS_RETURN_IF_ERROR(WaitUntil([&] {
      return open() && waiting_.empty() && unanswered_.size() < window_ &&
             (under_way_ == 0 || under_way_ + batch.size() <= kEventsUnderWayMax) &&
             (unanswered_.empty() || AllBegun(batch));
    }));
    const wire::NativePublish publish = PublishOf(sequence_ + 1, producer_, batch);
    const Result<std::string> frame = EncodeNative(publish);
    if (!frame.ok() && batch.size() == 1) return frame.status();
    if (!frame.ok() || publish.batch.topics.size() > wire::kNativeEventTopicsMax) {
      // Too much for one frame.
      const auto middle = batch.begin() + static_cast<std::ptrdiff_t>(batch.size() / 2);
      MS_RETURN_IF_ERROR(SendBatch({batch.begin(), middle}));
      return SendBatch({middle, batch.end()});
    }
    under_way_ += batch.size();
    unanswered_.emplace(++sequence_, std::move(batch));
    SendOrBreak(*frame);
    return Status::Ok();
  }

  // Reads answers, and connects where there is no connection, until `done`.
  template <typename Done>
  Status WaitUntil(Done done) {
    int wait_ms = kWaitMsMin;
    int attempts = 0;
    while (!done()) {
      const bool connected = open();
      Status status = connected ? GoOn() : Reconnect();
      if (status.ok()) {
        // A server that welcomes and then breaks off has not helped.
        if (connected) attempts = 0;
        if (connected) wait_ms = kWaitMsMin;
        continue;
      }
      connection_.reset();
      if (!IsRetryable(status.code()) || ++attempts >= options_.attempts_max) return status;
      Wait(wait_ms);
      wait_ms = std::min(2 * wait_ms, kWaitMsMax);
    }
    return Status::Ok();
  }

  Status WaitForEvents(const Followed& followed, int wait_ms) {
    const env::Clock& clock = *env::SystemEnv().clock;
    const auto deadline = clock.MonotonicNow() + std::chrono::milliseconds(wait_ms);
    while (followed.events.empty() && !followed.ended) {
      MS_RETURN_IF_ERROR(Open());
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - clock.MonotonicNow());
      if (IsPausing() && !SendWaiting().ok()) {
        connection_.reset();
        continue;
      }
      const Result<bool> handled = HandleWithin(std::max(left, std::chrono::milliseconds(0)));
      if (!handled.ok()) {
        connection_.reset();
        if (!IsRetryable(handled.status().code())) return handled.status();
      }
      if (left.count() <= 0 && (!handled.ok() || !*handled)) return Status::Ok();
    }
    return Status::Ok();
  }

  // One frame that has come or comes within that time; false when none did.
  Result<bool> HandleWithin(std::chrono::milliseconds time) {
    MS_ASSIGN_OR_RETURN(const std::optional<wire::NativeFrame> frame, reader_.Next());
    if (!frame) return connection_->ReceiveWithin(time, &reader_);
    MS_RETURN_IF_ERROR(Handle(*frame));
    return true;
  }

  Status Reconnect() {
    MS_ASSIGN_OR_RETURN(connection_, Connection::Open(options_));
    reader_ = {};
    window_ = 0;
    MS_RETURN_IF_ERROR(connection_->Send(
        EncodeNative(wire::NativeHello{.key = options_.key, .tenant = options_.tenant, .client = options_.name})));
    while (window_ == 0) MS_RETURN_IF_ERROR(HandleAnswer());
    ++connections_;
    for (const auto& [sequence, batch] : unanswered_) {
      MS_ASSIGN_OR_RETURN(const std::string frame, EncodeNative(PublishOf(sequence, producer_, batch)));
      MS_RETURN_IF_ERROR(connection_->Send(frame));
    }
    for (auto& [number, followed] : followed_) {
      if (!followed.ended) MS_RETURN_IF_ERROR(Resume(number, followed));
    }
    return Status::Ok();
  }

  Status Resume(uint64_t number, Followed& followed) {
    MS_ASSIGN_OR_RETURN(const std::string frame, SubscribeFrame(number, followed));
    followed.taken = 0;
    return connection_->Send(frame);
  }

  // From where the subscription is now.
  static Result<std::string> SubscribeFrame(uint64_t number, const Followed& followed) {
    const FollowRequest& wanted = followed.wanted;
    const Offsets& offsets = followed.next.empty() ? wanted.offsets : followed.next;
    wire::NativeSubscribe out;
    out.subscription = number;
    out.topics.assign(wanted.topics.begin(), wanted.topics.end());
    out.from = followed.next.empty() ? OnWire(wanted.from) : wire::NativeFrom::kOffset;
    out.timestamp = wanted.timestamp;
    if (out.from == wire::NativeFrom::kOffset) {
      for (const auto& [topic, partitions] : offsets) {
        auto place = std::find(out.topics.begin(), out.topics.end(), topic);
        // Topics that a pattern found are named only for their offsets.
        if (place == out.topics.end()) place = out.topics.insert(place, topic);
        const auto index = static_cast<uint32_t>(place - out.topics.begin());
        for (const auto& [partition, offset] : partitions) out.offsets.push_back({index, partition, offset});
      }
    }
    out.filter = wanted.filter;
    out.on_slow = static_cast<uint8_t>(wanted.on_slow);
    out.lag_max = wanted.lag_max;
    // What has come and was not taken yet is on this side already.
    out.credit = wanted.credit - std::min<uint64_t>(wanted.credit, followed.events.size());
    return EncodeNative(out);
  }

  Status HandleAnswer() {
    while (true) {
      MS_ASSIGN_OR_RETURN(const std::optional<wire::NativeFrame> frame, reader_.Next());
      if (frame) return Handle(*frame);
      MS_RETURN_IF_ERROR(connection_->Receive(&reader_));
    }
  }

  Status Handle(const wire::NativeFrame& frame) {
    switch (frame.type) {
      case wire::NativeType::kPublished:
        return OnPublished(frame.payload);
      case wire::NativeType::kFetched:
        return OnFetched(frame.payload);
      case wire::NativeType::kSubscribed:
        return OnSubscribed(frame.payload);
      case wire::NativeType::kDelivered:
        return OnDelivered(frame.payload);
      case wire::NativeType::kEnded: {
        MS_ASSIGN_OR_RETURN(const wire::NativeEnded ended, wire::DecodeNativeEnded(frame.payload));
        const auto found = followed_.find(ended.subscription);
        if (found == followed_.end()) return Status::Ok();
        found->second.ended =
            ended.code == StatusCode::kOk ? Status::Ok() : Status(ended.code, std::string(ended.reason));
        return Status::Ok();
      }
      default:
        break;
    }
    MS_ASSIGN_OR_RETURN(const wire::NativeAnswer answer, wire::DecodeNativeAnswer(frame));
    return std::visit([this](const auto& one) { return On(one); }, answer);
  }

  Status On(const wire::NativeWelcome& welcome) {
    window_ = std::max<uint32_t>(welcome.window, 1);
    return Status::Ok();
  }
  Status On(const wire::NativeAck& /*ack*/) { return Status::Ok(); }
  Status On(const wire::NativePong& /*pong*/) { return Status::Ok(); }
  Status On(const wire::NativeError& error) {
    if (error.code == StatusCode::kOk) return InvalidArgument("the server reported an error without a code");
    return {error.code, std::string(error.reason)};
  }
  Status On(const wire::NativeRefused& refused) {
    if (refused.code == StatusCode::kOk) return InvalidArgument("the server refused without a code");
    if (refused.sequence == fetch_) {
      fetched_ = Status(refused.code, std::string(refused.reason));
      return Status::Ok();
    }
    auto batch = unanswered_.extract(refused.sequence);
    if (batch.empty()) return Status::Ok();
    if (MayGoAgain(refused.code, false)) {
      WaitWith(std::move(batch.mapped()), refused.retry_after_ms);
      return Status::Ok();
    }
    under_way_ -= batch.mapped().size();
    Refuse(batch.mapped(), refused.code, refused.reason);
    return Status::Ok();
  }

  Status OnPublished(std::string_view payload) {
    MS_ASSIGN_OR_RETURN(const wire::NativePublished published, wire::DecodeNativePublished(payload));
    auto batch = unanswered_.extract(published.sequence);
    if (batch.empty()) return Status::Ok();
    under_way_ -= batch.mapped().size();
    std::vector<Event> again;
    size_t place = 0;
    for (const wire::NativePublishedRun& run : published.runs) {
      const size_t end = std::min<size_t>(place + run.count, batch.mapped().size());
      if (run.code == StatusCode::kOk) {
        totals_.stored += end - place;
        if (!producer_.id.empty()) {
          for (size_t i = place; i < end; ++i) begun_.insert(RowOf(batch.mapped()[i]));
        }
      } else if (MayGoAgain(run.code, !again.empty())) {
        for (size_t i = place; i < end; ++i) again.push_back(std::move(batch.mapped()[i]));
      } else {
        Refuse(std::span(batch.mapped()).subspan(place, end - place), run.code, run.reason);
      }
      place = end;
    }
    if (again.empty()) return Status::Ok();
    under_way_ += again.size();
    WaitWith(std::move(again), kWaitMsMin);
    return Status::Ok();
  }

  // Of a producer, a gap closes only when something before it goes again.
  bool MayGoAgain(StatusCode code, bool behind) const {
    if (code == StatusCode::kAborted && !producer_.id.empty()) return behind || !waiting_.empty();
    return IsRetryable(code);
  }

  void WaitWith(std::vector<Event> batch, uint32_t ms) {
    pause_ms_ = std::max(pause_ms_, static_cast<int>(std::min<uint32_t>(ms, kWaitMsMax)));
    waiting_.push_back(std::move(batch));
  }

  // Whether something waits, and everything else is answered.
  bool IsPausing() const { return !waiting_.empty() && unanswered_.empty(); }

  Status GoOn() { return IsPausing() ? SendWaiting() : HandleAnswer(); }

  Status SendWaiting() {
    Wait(std::exchange(pause_ms_, 0));
    const uint64_t first = sequence_ + 1;
    // Sequences ascend, so they go as new ones.
    for (std::vector<Event>& batch : std::exchange(waiting_, {})) unanswered_.emplace(++sequence_, std::move(batch));
    for (auto at = unanswered_.lower_bound(first); at != unanswered_.end(); ++at) {
      MS_ASSIGN_OR_RETURN(const std::string frame, EncodeNative(PublishOf(at->first, producer_, at->second)));
      MS_RETURN_IF_ERROR(connection_->Send(frame));
    }
    return Status::Ok();
  }

  // What a producer's sequences count: a topic, and the partition that the event names.
  using Row = std::pair<std::string, std::optional<uint32_t>>;
  static Row RowOf(const Event& event) { return {event.topic, event.partition}; }

  bool AllBegun(std::span<const Event> events) const {
    if (producer_.id.empty()) return true;
    return std::ranges::all_of(events, [this](const Event& event) { return begun_.contains(RowOf(event)); });
  }

  void Refuse(std::span<const Event> events, StatusCode code, std::string_view reason) {
    totals_.refused += events.size();
    for (const Event& event : events) {
      if (totals_.refusals.size() == kEventRefusalsMax) return;
      totals_.refusals.push_back({event.topic, event.id, Status(code, std::string(reason))});
    }
  }

  Status OnFetched(std::string_view payload) {
    MS_ASSIGN_OR_RETURN(const wire::NativeFetched fetched, wire::DecodeNativeFetched(payload));
    if (fetched.sequence != fetch_) return Status::Ok();
    FetchedEvents out{.events = {}, .next_offset = fetched.next_offset, .end_offset = fetched.end_offset};
    for (const wire::NativeEvent& event : fetched.batch.events) out.events.push_back(Received(fetched.batch, event));
    fetched_ = std::move(out);
    return Status::Ok();
  }

  Status OnSubscribed(std::string_view payload) {
    MS_ASSIGN_OR_RETURN(const wire::NativeSubscribed subscribed, wire::DecodeNativeSubscribed(payload));
    const auto found = followed_.find(subscribed.subscription);
    if (found == followed_.end()) return Status::Ok();
    found->second.stands = true;
    for (const wire::NativeStart& start : subscribed.offsets) {
      const std::string topic(subscribed.topics[start.topic]);
      found->second.next[topic].try_emplace(start.partition, start.offset);
      found->second.position[topic].try_emplace(start.partition, start.offset);
    }
    return Status::Ok();
  }

  Status OnDelivered(std::string_view payload) {
    MS_ASSIGN_OR_RETURN(const wire::NativeDelivered delivered, wire::DecodeNativeDelivered(payload));
    const auto found = followed_.find(delivered.subscription);
    if (found == followed_.end()) return Status::Ok();
    found->second.dropped += delivered.dropped;
    for (const wire::NativeEvent& event : delivered.batch.events) {
      ReceivedEvent& received = found->second.events.emplace_back(Received(delivered.batch, event));
      found->second.next[received.topic][received.partition] = received.offset + 1;
    }
    return Status::Ok();
  }

  const ClientOptions options_;
  const Producer producer_;   // without an id: none
  const std::string prefix_;  // of the ids that it gives
  uint64_t next_id_ = 0;
  std::unique_ptr<Connection> connection_;  // none while there is none
  wire::NativeFrameReader reader_;
  uint32_t window_ = 0;
  uint64_t sequence_ = 0;
  std::map<uint64_t, std::vector<Event>> unanswered_;
  // Refused for now, in its order: goes again when everything else is answered, and before anything new.
  std::vector<std::vector<Event>> waiting_;
  int pause_ms_ = 0;      // before those go
  size_t under_way_ = 0;  // events that are unanswered or wait
  // Of a producer, where the server has taken an event of it: the first one that it sees may have any sequence, so none
  // is sent behind one that may have to go again.
  std::set<Row> begun_;
  EventTotals totals_;
  uint64_t fetch_ = 0;
  std::optional<Result<FetchedEvents>> fetched_;
  uint64_t subscription_ = 0;
  std::map<uint64_t, Followed> followed_;
  int connections_ = 0;
};

EventClient::EventClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
EventClient::~EventClient() = default;

Result<std::unique_ptr<EventClient>> EventClient::Connect(ClientOptions options, std::optional<Producer> producer) {
  if (producer && (producer->id.empty() || producer->id.size() > wire::kNativeTextBytesMax)) {
    return InvalidArgument("a producer's id of {} bytes", producer->id.size());
  }
  auto impl = std::make_unique<Impl>(std::move(options), std::move(producer));
  MS_RETURN_IF_ERROR(impl->Open());
  return std::unique_ptr<EventClient>(new EventClient(std::move(impl)));
}

Status EventClient::Publish(std::span<const Event> events) {
  return impl_->Publish(events);
}

Result<EventTotals> EventClient::Flush() {
  return impl_->Flush();
}

Result<FetchedEvents> EventClient::Fetch(const FetchRequest& request) {
  return impl_->Fetch(request);
}

Result<uint64_t> EventClient::Follow(FollowRequest request) {
  return impl_->Follow(std::move(request));
}

Result<std::vector<ReceivedEvent>> EventClient::Poll(uint64_t subscription, size_t limit, int wait_ms) {
  return impl_->Poll(subscription, limit, wait_ms);
}

Result<Offsets> EventClient::Position(uint64_t subscription) const {
  return impl_->Position(subscription);
}

Result<uint64_t> EventClient::Dropped(uint64_t subscription) const {
  return impl_->Dropped(subscription);
}

Status EventClient::Unfollow(uint64_t subscription) {
  return impl_->Unfollow(subscription);
}

int EventClient::connections() const {
  return impl_->connections();
}

class EventSender::Impl {
 public:
  explicit Impl(const ClientOptions& options)
      : key_(options.key), tenant_(options.tenant), client_(RandomNumber()), socket_(context_) {}

  Status Open(const ClientOptions& options) {
    error_code error;
    const auto address = asio::ip::make_address(options.host, error);
    if (error) return InvalidArgument("\"{}\" is no address", options.host);
    const asio::ip::udp::endpoint endpoint(address, options.port);
    socket_.open(endpoint.protocol(), error);
    if (!error) socket_.connect(endpoint, error);
    if (error) return Unavailable("cannot send to {}:{}: {}", options.host, options.port, error.message());
    return Status::Ok();
  }

  Status Publish(std::span<const Event> events) {
    MS_ASSIGN_OR_RETURN(const std::string frame, EncodeNative(PublishOf(0, {}, events)));
    MS_ASSIGN_OR_RETURN(
        const std::string datagram,
        wire::EncodeNativeEventDatagram({.client = client_,
                                         .sequence = sequence_,
                                         .key = key_,
                                         .tenant = tenant_,
                                         .publish = std::string_view(frame).substr(wire::kNativeFrameHeaderBytes)}));
    ++sequence_;
    error_code error;
    socket_.send(asio::buffer(datagram), 0, error);
    if (error) return Unavailable("cannot send: {}", error.message());
    return Status::Ok();
  }

 private:
  const std::string key_;
  const std::string tenant_;
  const uint64_t client_;
  uint64_t sequence_ = 0;
  asio::io_context context_{1};
  asio::ip::udp::socket socket_;
};

EventSender::EventSender(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
EventSender::~EventSender() = default;

Result<std::unique_ptr<EventSender>> EventSender::Open(const ClientOptions& options) {
  auto impl = std::make_unique<Impl>(options);
  MS_RETURN_IF_ERROR(impl->Open(options));
  return std::unique_ptr<EventSender>(new EventSender(std::move(impl)));
}

Status EventSender::Publish(std::span<const Event> events) {
  return impl_->Publish(events);
}

}  // namespace millstream::native
