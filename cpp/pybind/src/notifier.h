// What an event loop of Python waits on for news of subscriptions.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <memory>
#include <vector>

#include "errors.h"
#include "millstream/events/notifier.h"

namespace millstream::pybind {

// A Notifier whose wake-up is an eventfd, so that an event loop can wait for it.
class FdNotifier {
 public:
  FdNotifier() : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    if (fd_ < 0) throw StatusError(ResourceExhausted("the system has no file descriptor left for a notifier"));
    // The descriptor lives as long as the notifier does, which subscriptions share.
    const std::shared_ptr<const int> descriptor(new int(fd_), [](const int* fd) {
      (void)close(*fd);
      delete fd;
    });
    notifier_ = std::make_shared<events::Notifier>([descriptor] { (void)eventfd_write(*descriptor, 1); });
  }

  int fd() const { return fd_; }
  const std::shared_ptr<events::Notifier>& notifier() const { return notifier_; }

  std::vector<uint64_t> Take() {
    eventfd_t count = 0;
    // First, so that what comes in between makes it readable again.
    (void)eventfd_read(fd_, &count);
    return notifier_->Take();
  }

 private:
  const int fd_;
  std::shared_ptr<events::Notifier> notifier_;
};

}  // namespace millstream::pybind
