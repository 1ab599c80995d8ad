// SPDX-License-Identifier: Apache-2.0 OR MIT
// What asks for more of the group's memory than there is without asking.
#pragma once
enum class JUDGE_API(FuncAttribute) { dynamic };
static constexpr JUDGE_API(FuncAttribute) JUDGE_API(FuncAttributeMaxDynamicSharedMemorySize) = JUDGE_API(FuncAttribute)::dynamic;
extern "C" JUDGE_API(Error_t) JUDGE_API(FuncSetAttribute)(const void *, JUDGE_API(FuncAttribute), int);
