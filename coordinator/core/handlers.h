#pragma once

#include "coordinator/core/step.h"

/// What sessions and admin commands bring about. For this folder's sources only.
namespace rivulet::coordinator {

void on(Step& step, const event::HelloReceived& event);
void on(Step& step, const event::EnrolReceived& event);
void on(Step& step, const event::ReadyReceived& event);
void on(Step& step, const event::OfferReceived& event);
void on(Step& step, const event::EvaluationReceived& event);
void on(Step& step, const event::DeclinedReceived& event);
void on(Step& step, const event::TelemetryReceived& event);
void on(Step& step, const event::ActivationReceived& event);
void on(Step& step, const event::SessionClosed& event);
void on(Step& step, const event::ContentServed& event);

void on(Step& step, const event::CreateToken& event);
void on(Step& step, const event::RevokeToken& event);
void on(Step& step, const event::RevokeNode& event);
void on(Step& step, const event::QuarantineNode& event);
void on(Step& step, const event::ReleaseNode& event);
void on(Step& step, const event::TagNode& event);
void on(Step& step, const event::ImportRelease& event);
void on(Step& step, const event::ImportFailed& event);
void on(Step& step, const event::StartRounds& event);
void on(Step& step, const event::TrustChanged& event);

void on(Step& step, const event::Tick& event);
void on(Step& step, const event::StorageState& event);
void on(Step& step, const event::ShuttingDown& event);

/// The sealed first version of a release that is being imported.
void finish_import(Step& step, const event::VersionSealed& event);

}  // namespace rivulet::coordinator
