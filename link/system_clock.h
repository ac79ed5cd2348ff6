#pragma once

#include "protocol/now.h"

namespace rivulet {

/// Both clocks of this machine. The only place where production reads them for decisions.
Now system_now();

}  // namespace rivulet
