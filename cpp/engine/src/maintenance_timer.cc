#include "maintenance_timer.h"

#include <utility>

namespace millstream::engine {

Result<std::unique_ptr<MaintenanceTimer>> MaintenanceTimer::Start(std::chrono::milliseconds interval,
                                                                  std::function<void()> work, env::Executor& executor) {
  std::unique_ptr<MaintenanceTimer> timer(new MaintenanceTimer(interval, std::move(work)));
  MS_ASSIGN_OR_RETURN(timer->thread_, executor.Start({.name = "ms-maintenance", .cpu = std::nullopt},
                                                     [raw = timer.get()] { raw->Run(); }));
  return timer;
}

MaintenanceTimer::~MaintenanceTimer() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.NotifyAll();
  thread_.reset();
}

bool MaintenanceTimer::WaitForTurn() {
  MutexLock lock(mutex_);
  while (!stopping_) {
    // A wake-up for no reason makes maintenance early, which does no harm.
    if (!wake_.WaitFor(mutex_, interval_)) break;
  }
  return !stopping_;
}

void MaintenanceTimer::Run() {
  while (WaitForTurn()) work_();
}

}  // namespace millstream::engine
