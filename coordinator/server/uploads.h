#pragma once

#include <map>
#include <set>
#include <vector>

#include "coordinator/core/effects.h"
#include "coordinator/core/events.h"
#include "coordinator/core/fleet.h"
#include "coordinator/work/update_inspection.h"
#include "models/package/layout.h"
#include "protocol/ids.h"
#include "storage/blob_store.h"

namespace rivulet::coordinator {

class Driver;
class Links;

/// The contents of updates on their way from nodes to the disk. Several tasks may want one content,
/// which then comes from one session at a time, and is made durable and inspected once nobody writes it.
/// What has come of a content stays over lost connections as long as an open task may go on with it.
/// On the driver's thread.
class Uploads {
 public:
  explicit Uploads(Driver& driver) : driver_(driver) {}

  /// effect::FetchUpdate: exactly one of UpdateStored, UpdateRejected, UpdateTransferFailed answers it,
  /// unless it is dropped or replaced.
  void want(Links& links, const effect::FetchUpdate& update);
  /// The task takes no content (any more).
  void drop(const TaskId& task);
  /// Parts from before this process began, which its open tasks may go on with …
  void adopt(const std::vector<PartInfo>& parts);
  /// … until no task is open.
  void drop_adopted();
  /// The session has all bytes of the content.
  void arrived(SessionId session, const ContentId& content);
  /// … or will not get them.
  void failed(SessionId session, const ContentId& content, const Error& error);
  void session_over(SessionId session);

 private:
  struct Settled {
    Status stored;                        ///< What our own disk failed with.
    bool damaged = false;                 ///< The blob is not what its name says; and is gone, if it may be.
    std::vector<Inspection> inspections;  ///< Of each update, if the blob is whole.
  };

  [[nodiscard]] std::vector<effect::FetchUpdate> wanting(const ContentId& content) const;
  void begin(const effect::FetchUpdate& update);
  /// Lets the next of those who want the content bring it.
  void begin_next(const ContentId& content);
  void settle(const ContentId& content, bool is_part);
  void settled(const ContentId& content, const std::vector<effect::FetchUpdate>& updates,
               const Settled& outcome);
  /// Any thread but the driver's: reads all of the content.
  static Settled make_durable(BlobStore& blobs, const ContentId& content, bool is_part, bool may_erase,
                              const std::vector<effect::FetchUpdate>& updates,
                              const std::vector<ParameterLayout>& layouts);
  /// Whether an update that was accepted has it.
  [[nodiscard]] bool is_accepted(const ContentId& content) const;
  /// What is to be done about a content that the disk has damaged.
  void mend(const ContentId& content);
  /// The disk damaged what had come of it: all of it has to come again.
  void fetch_anew(const ContentId& content);
  void answer(const effect::FetchUpdate& update, const Inspection& inspection);
  using Cause = event::UpdateTransferFailed::Cause;
  void give_up(const effect::FetchUpdate& update, const std::string& detail, Cause cause);
  void erase_unreferenced(const ContentId& content);
  /// Stops the fetch of a content that no open task began, and erases what has come of it.
  void erase_abandoned(const ContentId& content);

  Driver& driver_;
  Links* links_ = nullptr;  // Set by the first want().
  std::map<TaskId, effect::FetchUpdate> wanted_;
  std::map<TaskId, ContentId> begun_;  // By open tasks: what there may be a part of.
  std::set<ContentId> adopted_;
  std::map<ContentId, SessionId> fetching_;
  std::set<ContentId> settling_;
  std::map<ContentId, int> damages_;  // How often, one after the other.
};

}  // namespace rivulet::coordinator
