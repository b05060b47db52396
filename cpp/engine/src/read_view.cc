#include "millstream/engine/read_view.h"

#include <algorithm>
#include <set>
#include <utility>

#include "millstream/promql/parser.h"
#include "tenant_label.h"

namespace millstream::engine {
namespace {

using SelectedList = std::vector<std::unique_ptr<storage::SelectedSeries>>;

bool ByLabels(const std::unique_ptr<storage::SelectedSeries>& a, const std::unique_ptr<storage::SelectedSeries>& b) {
  return a->labels() < b->labels();
}

std::vector<std::string> Cut(std::set<std::string> all, size_t limit) {
  std::vector<std::string> out(std::make_move_iterator(all.begin()), std::make_move_iterator(all.end()));
  if (limit > 0 && out.size() > limit + 1) out.resize(limit + 1);
  return out;
}

// What a filter lets through. Names and values are those of series that it admits.
class FilterQuerier final : public storage::Querier {
 public:
  FilterQuerier(std::unique_ptr<storage::Querier> inner, const storage::SeriesFilter& filter)
      : inner_(std::move(inner)), filter_(filter) {}

  Result<SelectedList> Select(storage::TimeRange range, std::span<const model::Matcher> matchers,
                              const storage::SelectHints& hints, storage::QueryControl& control) const override {
    storage::SeriesFilter::Selector all(matchers.begin(), matchers.end());
    all.insert(all.end(), filter_.common().begin(), filter_.common().end());
    MS_ASSIGN_OR_RETURN(SelectedList selected, inner_->Select(range, all, hints, control));
    std::erase_if(selected, [&](const auto& series) { return !filter_.Admits(series->labels()); });
    return selected;
  }

  Result<std::vector<std::string>> LabelNames(storage::TimeRange range, std::span<const model::Matcher> matchers,
                                              size_t limit, storage::QueryControl& control) const override {
    return Collect(range, matchers, limit, control, [](const model::Labels& labels, std::set<std::string>* out) {
      for (const model::Label& label : labels) out->emplace(label.name);
    });
  }

  Result<std::vector<std::string>> LabelValues(std::string_view name, storage::TimeRange range,
                                               std::span<const model::Matcher> matchers, size_t limit,
                                               storage::QueryControl& control) const override {
    return Collect(range, matchers, limit, control, [name](const model::Labels& labels, std::set<std::string>* out) {
      if (const std::string_view value = labels.Get(name); !value.empty()) out->emplace(value);
    });
  }

 private:
  template <typename Add>
  Result<std::vector<std::string>> Collect(storage::TimeRange range, std::span<const model::Matcher> matchers,
                                           size_t limit, storage::QueryControl& control, const Add& add) const {
    MS_ASSIGN_OR_RETURN(const SelectedList selected, Select(range, matchers, {}, control));
    std::set<std::string> found;
    for (const auto& series : selected) add(series->labels(), &found);
    return Cut(std::move(found), limit);
  }

  const std::unique_ptr<storage::Querier> inner_;
  const storage::SeriesFilter filter_;
};

// A series under the labels that it has beside other tenants' series.
class TenantSeries final : public storage::SelectedSeries {
 public:
  TenantSeries(std::unique_ptr<storage::SelectedSeries> inner, std::string_view tenant)
      : inner_(std::move(inner)), labels_(WithTenant(inner_->labels(), tenant)) {}

  const model::Labels& labels() const override { return labels_; }
  Status Read(storage::TimeRange range, storage::SampleColumns* out) const override { return inner_->Read(range, out); }

 private:
  const std::unique_ptr<storage::SelectedSeries> inner_;
  const model::Labels labels_;
};

class TenantsQuerier final : public storage::Querier {
 public:
  struct Tenant {
    std::string name;
    std::unique_ptr<storage::Querier> querier;
  };

  explicit TenantsQuerier(std::vector<Tenant> tenants) : tenants_(std::move(tenants)) {}

  Result<SelectedList> Select(storage::TimeRange range, std::span<const model::Matcher> matchers,
                              const storage::SelectHints& hints, storage::QueryControl& control) const override {
    MS_ASSIGN_OR_RETURN(const Question question, Ask(matchers));
    SelectedList all;
    for (const Tenant* tenant : question.tenants) {
      MS_ASSIGN_OR_RETURN(SelectedList part, tenant->querier->Select(range, question.matchers, hints, control));
      for (auto& series : part) all.push_back(std::make_unique<TenantSeries>(std::move(series), tenant->name));
    }
    // The new label may come between those that a tenant's series were in order of.
    std::sort(all.begin(), all.end(), ByLabels);
    for (size_t i = 1; i < all.size(); ++i) {
      if (all[i]->labels() == all[i - 1]->labels()) return SameWithTenant(all[i]->labels());
    }
    return all;
  }

  Result<std::vector<std::string>> LabelNames(storage::TimeRange range, std::span<const model::Matcher> matchers,
                                              size_t limit, storage::QueryControl& control) const override {
    MS_ASSIGN_OR_RETURN(const Question question, Ask(matchers));
    std::set<std::string> found;
    for (const Tenant* tenant : question.tenants) {
      MS_ASSIGN_OR_RETURN(const auto names, tenant->querier->LabelNames(range, question.matchers, limit, control));
      for (const std::string& name : names) found.emplace(name == kTenantLabel ? kOriginalTenantLabel : name);
    }
    if (!found.empty()) found.emplace(kTenantLabel);
    return Cut(std::move(found), limit);
  }

  Result<std::vector<std::string>> LabelValues(std::string_view name, storage::TimeRange range,
                                               std::span<const model::Matcher> matchers, size_t limit,
                                               storage::QueryControl& control) const override {
    MS_ASSIGN_OR_RETURN(const Question question, Ask(matchers));
    std::set<std::string> found;
    for (const Tenant* tenant : question.tenants) {
      if (name == kTenantLabel) {
        MS_ASSIGN_OR_RETURN(const auto names, tenant->querier->LabelNames(range, question.matchers, 1, control));
        if (!names.empty()) found.insert(tenant->name);
        continue;
      }
      const std::string_view inner = name == kOriginalTenantLabel ? kTenantLabel : name;
      MS_ASSIGN_OR_RETURN(const auto values,
                          tenant->querier->LabelValues(inner, range, question.matchers, limit, control));
      found.insert(values.begin(), values.end());
    }
    return Cut(std::move(found), limit);
  }

 private:
  // Which tenants are asked, and for what in their own words.
  struct Question {
    std::vector<const Tenant*> tenants;
    std::vector<model::Matcher> matchers;
  };

  Result<Question> Ask(std::span<const model::Matcher> matchers) const {
    Question question;
    for (const Tenant& tenant : tenants_) {
      if (ChooseTenant(matchers, tenant.name)) question.tenants.push_back(&tenant);
    }
    MS_ASSIGN_OR_RETURN(question.matchers, WithoutTenant(matchers));
    return question;
  }

  const std::vector<Tenant> tenants_;
};

Result<std::vector<storage::SeriesFilter::Selector>> Parse(const std::vector<std::string>& selectors) {
  std::vector<storage::SeriesFilter::Selector> parsed;
  parsed.reserve(selectors.size());
  for (const std::string& selector : selectors) {
    MS_ASSIGN_OR_RETURN(storage::SeriesFilter::Selector matchers, promql::ParseMetricSelector(selector));
    parsed.push_back(std::move(matchers));
  }
  return parsed;
}

}  // namespace

Result<storage::SeriesFilter> MakeFilter(const std::vector<std::string>& allow, const std::vector<std::string>& deny) {
  if (allow.size() + deny.size() > kViewSelectorsMax) {
    return ResourceExhausted("{} selectors of access lists; the limit is {}", allow.size() + deny.size(),
                             kViewSelectorsMax);
  }
  MS_ASSIGN_OR_RETURN(auto allowed, Parse(allow));
  MS_ASSIGN_OR_RETURN(auto denied, Parse(deny));
  return storage::SeriesFilter(std::move(allowed), std::move(denied));
}

Result<bool> AreWithin(const std::vector<std::string>& selectors, const std::vector<std::string>& allow,
                       const std::vector<std::string>& deny) {
  MS_ASSIGN_OR_RETURN(const storage::SeriesFilter filter, MakeFilter(allow, deny));
  MS_ASSIGN_OR_RETURN(const auto parsed, Parse(selectors));
  return std::ranges::all_of(parsed, [&](const auto& selector) { return filter.AdmitsAllOf(selector); });
}

Result<ReadView> ReadView::Make(const std::vector<TenantScope>& scopes) {
  if (scopes.empty() || scopes.size() > kViewTenantsMax) {
    return InvalidArgument("a read is about 1 to {} tenants, not {}", kViewTenantsMax, scopes.size());
  }
  ReadView view;
  std::set<std::string_view> names;
  for (const TenantScope& scope : scopes) {
    if (!names.insert(scope.name).second) return InvalidArgument("the tenant \"{}\" is named twice", scope.name);
    MS_ASSIGN_OR_RETURN(storage::SeriesFilter filter, MakeFilter(scope.allow, scope.deny));
    view.parts_.push_back({scope.tenant, scope.name, std::move(filter)});
  }
  return view;
}

Result<std::unique_ptr<storage::Querier>> ReadView::QuerierOf(const Part& part, const storage::Queryable& store) {
  MS_ASSIGN_OR_RETURN(std::unique_ptr<storage::Querier> querier, store.MakeQuerier(part.tenant));
  if (part.filter.admits_everything()) return querier;
  return std::make_unique<FilterQuerier>(std::move(querier), part.filter);
}

Result<std::unique_ptr<storage::Querier>> ReadView::MakeQuerier(const storage::Queryable& store) const {
  std::vector<TenantsQuerier::Tenant> tenants;
  for (const Part& part : parts_) {
    MS_ASSIGN_OR_RETURN(std::unique_ptr<storage::Querier> querier, QuerierOf(part, store));
    tenants.push_back({part.name, std::move(querier)});
  }
  if (tenants.size() == 1) return std::move(tenants.front().querier);
  return std::make_unique<TenantsQuerier>(std::move(tenants));
}

}  // namespace millstream::engine
