#include "millstream/native/client.h"

#include <algorithm>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "connection.h"
#include "millstream/wire/labels_decoder.h"
#include "millstream/wire/native_frame.h"

namespace millstream::native {

namespace {

constexpr size_t kSeriesFrameBytes = 1 << 20;
constexpr size_t kWriteOverheadBytes = 12;
constexpr size_t kSampleBytes = 20;

struct Batch {
  std::vector<uint32_t> refs;
  std::vector<TimestampMs> timestamps;
  std::vector<double> values;
};

}  // namespace

class Client::Impl {
 public:
  explicit Impl(ClientOptions options) : options_(std::move(options)) {}

  uint32_t Series(std::span<const model::Label> labels) {
    std::string raw;
    for (const model::Label& label : labels) {
      wire::AppendPairString(label.name, &raw);
      wire::AppendPairString(label.value, &raw);
    }
    const auto [found, inserted] = refs_.try_emplace(std::move(raw), static_cast<uint32_t>(labels_.size()));
    if (inserted) labels_.push_back(found->first);
    return found->second;
  }

  Status Write(std::span<const uint32_t> refs, std::span<const TimestampMs> timestamps,
               std::span<const double> values) {
    if (refs.size() != timestamps.size() || refs.size() != values.size()) {
      return InvalidArgument("{} references, {} timestamps and {} values", refs.size(), timestamps.size(),
                             values.size());
    }
    for (const uint32_t ref : refs) {
      if (ref >= labels_.size()) return InvalidArgument("series {} is not defined", ref);
    }
    for (size_t begin = 0; begin < refs.size();) {
      MS_RETURN_IF_ERROR(WaitUntil([this] { return open() && unanswered_.size() < welcome_.window; }));
      const size_t most = (welcome_.frame_bytes_max - kWriteOverheadBytes) / kSampleBytes;
      const size_t count = std::min(most, refs.size() - begin);
      const auto part = [&](auto column) { return column.subspan(begin, count); };
      Batch batch{.refs = {part(refs).begin(), part(refs).end()},
                  .timestamps = {part(timestamps).begin(), part(timestamps).end()},
                  .values = {part(values).begin(), part(values).end()}};
      const auto [place, inserted] = unanswered_.emplace(++sequence_, std::move(batch));
      // What cannot be sent now is among the unanswered, and goes with the next connection.
      if (!Send(place->first, place->second).ok()) connection_.reset();
      begin += count;
    }
    return Status::Ok();
  }

  Result<Totals> Flush() {
    MS_RETURN_IF_ERROR(WaitUntil([this] { return unanswered_.empty(); }));
    return totals_;
  }

  Status Open() {
    return WaitUntil([this] { return open(); });
  }
  int connections() const { return connections_; }

 private:
  // Reads answers, and connects where there is no connection, until `done`.
  template <typename Done>
  Status WaitUntil(Done done) {
    int wait_ms = kWaitMsMin;
    int attempts = 0;
    while (!done()) {
      Status status = open() ? HandleAnswer() : Reconnect();
      if (status.ok()) {
        attempts = 0;
        wait_ms = kWaitMsMin;
        continue;
      }
      connection_.reset();
      if (!IsRetryable(status.code()) || ++attempts >= options_.attempts_max) return status;
      Wait(wait_ms);
      wait_ms = std::min(2 * wait_ms, kWaitMsMax);
    }
    return Status::Ok();
  }

  bool open() const { return connection_ != nullptr; }

  Status Reconnect() {
    MS_ASSIGN_OR_RETURN(connection_, Connection::Open(options_));
    reader_ = {};
    defined_ = 0;
    welcome_ = {};
    MS_RETURN_IF_ERROR(connection_->Send(
        EncodeNative(wire::NativeHello{.key = options_.key, .tenant = options_.tenant, .client = options_.name})));
    while (welcome_.window == 0) MS_RETURN_IF_ERROR(HandleAnswer());
    if (welcome_.frame_bytes_max < kWriteOverheadBytes + kSampleBytes) {
      return InvalidArgument("the server takes frames of {} bytes", welcome_.frame_bytes_max);
    }
    ++connections_;
    for (const auto& [sequence, batch] : unanswered_) MS_RETURN_IF_ERROR(Send(sequence, batch));
    return Status::Ok();
  }

  Status Send(uint64_t sequence, const Batch& batch) {
    while (defined_ < labels_.size()) {
      wire::NativeSeries series{.first = static_cast<uint32_t>(defined_), .labels = {}};
      size_t bytes = 0;
      while (defined_ < labels_.size() && bytes < kSeriesFrameBytes) {
        bytes += labels_[defined_].size();
        series.labels.push_back(labels_[defined_++]);
      }
      MS_RETURN_IF_ERROR(connection_->Send(EncodeNative(series)));
    }
    return connection_->Send(wire::EncodeNativeWrite(sequence, batch.refs, batch.timestamps, batch.values));
  }

  Status HandleAnswer() {
    while (true) {
      MS_ASSIGN_OR_RETURN(const std::optional<wire::NativeFrame> frame, reader_.Next());
      if (!frame) {
        MS_RETURN_IF_ERROR(connection_->Receive(&reader_));
        continue;
      }
      MS_ASSIGN_OR_RETURN(const wire::NativeAnswer answer, wire::DecodeNativeAnswer(*frame));
      return std::visit([this](const auto& one) { return Handle(one); }, answer);
    }
  }

  Status Handle(const wire::NativeWelcome& welcome) {
    welcome_ = welcome;
    return Status::Ok();
  }
  Status Handle(const wire::NativeAck& ack) {
    unanswered_.erase(ack.sequence);
    totals_.samples += ack.samples;
    totals_.rejected += ack.rejected;
    if (totals_.first_reason.empty() && !ack.errors.empty()) totals_.first_reason = ack.errors[0].reason;
    return Status::Ok();
  }
  Status Handle(const wire::NativeRefused& refused) {
    auto batch = unanswered_.extract(refused.sequence);
    if (batch.empty()) return Status::Ok();
    if (!IsRetryable(refused.code)) return {refused.code, std::string(refused.reason)};
    Wait(static_cast<int>(std::min<uint32_t>(refused.retry_after_ms, kWaitMsMax)));
    // Sequences ascend, so it goes as a new one.
    const auto [place, inserted] = unanswered_.emplace(++sequence_, std::move(batch.mapped()));
    return Send(place->first, place->second);
  }
  Status Handle(const wire::NativePong& /*pong*/) { return Status::Ok(); }
  Status Handle(const wire::NativeError& error) {
    if (error.code == StatusCode::kOk) return InvalidArgument("the server reported an error without a code");
    return {error.code, std::string(error.reason)};
  }

  const ClientOptions options_;
  std::unique_ptr<Connection> connection_;  // none while there is none
  wire::NativeFrameReader reader_;
  wire::NativeWelcome welcome_;
  std::unordered_map<std::string, uint32_t> refs_;
  std::vector<std::string> labels_;
  size_t defined_ = 0;  // on this connection
  uint64_t sequence_ = 0;
  std::map<uint64_t, Batch> unanswered_;
  Totals totals_;
  int connections_ = 0;
};

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::~Client() = default;

Result<std::unique_ptr<Client>> Client::Connect(ClientOptions options) {
  auto impl = std::make_unique<Impl>(std::move(options));
  MS_RETURN_IF_ERROR(impl->Open());
  return std::unique_ptr<Client>(new Client(std::move(impl)));
}

uint32_t Client::Series(std::span<const model::Label> labels) {
  return impl_->Series(labels);
}

Status Client::Write(std::span<const uint32_t> refs, std::span<const TimestampMs> timestamps,
                     std::span<const double> values) {
  return impl_->Write(refs, timestamps, values);
}

Result<Totals> Client::Flush() {
  return impl_->Flush();
}

int Client::connections() const {
  return impl_->connections();
}

}  // namespace millstream::native
