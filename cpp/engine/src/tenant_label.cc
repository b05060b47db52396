#include "tenant_label.h"

#include <algorithm>
#include <string>
#include <utility>

#include "millstream/engine/read_view.h"

namespace millstream::engine {

bool ChooseTenant(std::span<const model::Matcher> matchers, std::string_view tenant) {
  return std::ranges::all_of(matchers, [&](const model::Matcher& matcher) {
    return matcher.name() != kTenantLabel || matcher.Matches(tenant);
  });
}

Result<std::vector<model::Matcher>> WithoutTenant(std::span<const model::Matcher> matchers) {
  std::vector<model::Matcher> own;
  for (const model::Matcher& matcher : matchers) {
    if (matcher.name() == kTenantLabel) continue;
    if (matcher.name() == kOriginalTenantLabel) {
      MS_ASSIGN_OR_RETURN(model::Matcher renamed,
                          model::Matcher::Make(matcher.type(), std::string(kTenantLabel), matcher.value()));
      own.push_back(std::move(renamed));
    } else {
      own.push_back(matcher);
    }
  }
  return own;
}

model::Labels WithTenant(const model::Labels& labels, std::string_view tenant) {
  model::LabelsBuilder builder(labels);
  if (const std::string_view own = labels.Get(kTenantLabel); !own.empty()) builder.Set(kOriginalTenantLabel, own);
  return builder.Set(kTenantLabel, tenant).Build();
}

Status SameWithTenant(const model::Labels& labels) {
  return FailedPrecondition("two series of one tenant are the same when {} is renamed: {}", kTenantLabel,
                            labels.ToString());
}

}  // namespace millstream::engine
