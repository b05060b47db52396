// The label __tenant_id__ of series that are read of several tenants at once: read_view.h.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/base/status.h"
#include "millstream/model/labels.h"
#include "millstream/model/matcher.h"

namespace millstream::engine {

// Whether the matchers of __tenant_id__ among these match a tenant's name.
bool ChooseTenant(std::span<const model::Matcher> matchers, std::string_view tenant);

// The others, in a tenant's own words.
Result<std::vector<model::Matcher>> WithoutTenant(std::span<const model::Matcher> matchers);

// The labels that a tenant's series has beside those of other tenants.
model::Labels WithTenant(const model::Labels& labels, std::string_view tenant);

// Why a series cannot be told from another of its tenant under those labels. kFailedPrecondition.
Status SameWithTenant(const model::Labels& labels);

}  // namespace millstream::engine
