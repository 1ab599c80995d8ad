#loc0 = loc("main/Relu_0")
llvm.func internal @pwk_map_max.groups(%a0: !llvm.ptr {llvm.align = 4 : i64, llvm.nocapture, llvm.noalias, llvm.readonly}, %a1: !llvm.ptr {llvm.align = 4 : i64, llvm.nocapture, llvm.noalias}, %grid0: i64, %grid1: i64, %grid2: i64, %begin: i64, %end: i64, %scratch: !llvm.ptr {llvm.align = 64 : i64, llvm.noalias}, %status: !llvm.ptr) attributes {always_inline, no_unwind} {
  %1 = arith.constant 1 : i64 loc(#loc0)
  %2 = arith.constant 0 : i64 loc(#loc0)
  %3 = arith.constant 80 : i64 loc(#loc0)
  %4 = arith.constant 16 : i64 loc(#loc0)
  %8 = arith.constant dense<0.0> : vector<16xf32> loc(#loc0)
  %11 = arith.constant 91 : i64 loc(#loc0)
  %20 = arith.constant dense<[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]> : vector<16xi32> loc(#loc0)
  %22 = arith.constant 0.0 : f32 loc(#loc0)
  scf.for %g.0 = %begin to %end step %1 : i64 {
    scf.for %c.5 = %2 to %3 step %4 : i64 {
      %6 = llvm.getelementptr %a0[%c.5] : (!llvm.ptr, i64) -> !llvm.ptr, f32 loc(#loc0)
      %7 = llvm.load %6 {alignment = 4 : i64} : !llvm.ptr -> vector<16xf32> loc(#loc0)
      %9 = llvm.intr.maximum(%7, %8) : (vector<16xf32>, vector<16xf32>) -> vector<16xf32> loc(#loc0)
      %10 = llvm.getelementptr %a1[%c.5] : (!llvm.ptr, i64) -> !llvm.ptr, f32 loc(#loc0)
      llvm.store %9, %10 {alignment = 4 : i64} : vector<16xf32>, !llvm.ptr loc(#loc0)
    } loc(#loc0)
    %12 = arith.cmpi slt, %3, %11 : i64 loc(#loc0)
    scf.if %12 {
      %14 = arith.subi %11, %3 : i64 loc(#loc0)
      %15 = arith.cmpi sle, %11, %3 : i64 loc(#loc0)
      %16 = arith.minui %14, %4 : i64 loc(#loc0)
      %17 = arith.select %15, %2, %16 : i64 loc(#loc0)
      %18 = arith.trunci %17 : i64 to i32 loc(#loc0)
      %19 = vector.broadcast %18 : i32 to vector<16xi32> loc(#loc0)
      %21 = arith.cmpi ult, %20, %19 : vector<16xi32> loc(#loc0)
      %23 = vector.broadcast %22 : f32 to vector<16xf32> loc(#loc0)
      %24 = llvm.getelementptr %a0[%3] : (!llvm.ptr, i64) -> !llvm.ptr, f32 loc(#loc0)
      %25 = llvm.intr.masked.load %24, %21, %23 {alignment = 4 : i32} : (!llvm.ptr, vector<16xi1>, vector<16xf32>) -> vector<16xf32> loc(#loc0)
      %26 = llvm.intr.maximum(%25, %8) : (vector<16xf32>, vector<16xf32>) -> vector<16xf32> loc(#loc0)
      %27 = llvm.getelementptr %a1[%3] : (!llvm.ptr, i64) -> !llvm.ptr, f32 loc(#loc0)
      llvm.intr.masked.store %26, %27, %21 {alignment = 4 : i32} : vector<16xf32>, vector<16xi1> into !llvm.ptr loc(#loc0)
    } loc(#loc0)
  } loc(#loc0)
  llvm.return loc(#loc0)
} loc(#loc0)
llvm.func hidden @pwk_map_max(%bufs: !llvm.ptr {llvm.noalias, llvm.readonly}, %syms: !llvm.ptr {llvm.noalias, llvm.readonly}, %grid: !llvm.ptr {llvm.noalias, llvm.readonly}, %begin: i64, %end: i64, %scratch: !llvm.ptr, %status: !llvm.ptr) attributes {no_unwind} {
  %0 = llvm.load %bufs {alignment = 8 : i64} : !llvm.ptr -> !llvm.ptr loc(#loc0)
  %1 = llvm.getelementptr %bufs[1] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr loc(#loc0)
  %2 = llvm.load %1 {alignment = 8 : i64} : !llvm.ptr -> !llvm.ptr loc(#loc0)
  %3 = llvm.load %grid {alignment = 8 : i64} : !llvm.ptr -> i64 loc(#loc0)
  %4 = llvm.getelementptr %grid[1] : (!llvm.ptr) -> !llvm.ptr, i64 loc(#loc0)
  %5 = llvm.load %4 {alignment = 8 : i64} : !llvm.ptr -> i64 loc(#loc0)
  %6 = llvm.getelementptr %grid[2] : (!llvm.ptr) -> !llvm.ptr, i64 loc(#loc0)
  %7 = llvm.load %6 {alignment = 8 : i64} : !llvm.ptr -> i64 loc(#loc0)
  llvm.call @pwk_map_max.groups(%0, %2, %3, %5, %7, %begin, %end, %scratch, %status) : (!llvm.ptr, !llvm.ptr, i64, i64, i64, i64, i64, !llvm.ptr, !llvm.ptr) -> () loc(#loc0)
  llvm.return loc(#loc0)
} loc(#loc0)

#plan = loc("host plan")
llvm.func hidden @pw_plan_main(%ctx: !llvm.ptr) -> i32 attributes {no_unwind} {
  %0 = arith.constant 1 : i64 loc(#plan)
  %1 = llvm.alloca %0 x !llvm.ptr {alignment = 8 : i64} : (i64) -> !llvm.ptr loc(#plan)
  %2 = arith.constant 2 : i64 loc(#plan)
  %3 = llvm.alloca %2 x !llvm.ptr {alignment = 8 : i64} : (i64) -> !llvm.ptr loc(#plan)
  %4 = llvm.alloca %0 x i64 {alignment = 8 : i64} : (i64) -> !llvm.ptr loc(#plan)
  %5 = arith.constant 3 : i64 loc(#plan)
  %6 = llvm.alloca %5 x i64 {alignment = 8 : i64} : (i64) -> !llvm.ptr loc(#plan)
  %7 = llvm.alloca %2 x i64 {alignment = 8 : i64} : (i64) -> !llvm.ptr loc(#plan)
  %8 = arith.constant 0 : i32 loc(#plan)
  %10 = arith.constant 1 : i32 loc(#plan)
  %12 = arith.constant 7 : i64 loc(#plan)
  %14 = arith.constant 2 : i32 loc(#plan)
  %16 = arith.constant 13 : i64 loc(#plan)
  %21 = llvm.mlir.zero : !llvm.ptr loc(#plan)
  %29 = arith.constant 0 : i64 loc(#plan)
  %30 = llvm.mlir.addressof @pwk_map_max : !llvm.ptr loc(#plan)
  %9 = llvm.call @pw_rt_dim(%ctx, %8, %8) : (!llvm.ptr, i32, i32) -> i64 loc(#plan)
  %11 = llvm.call @pw_rt_dim(%ctx, %8, %10) : (!llvm.ptr, i32, i32) -> i64 loc(#plan)
  %13 = arith.cmpi eq, %9, %12 : i64 loc(#plan)
  llvm.cond_br %13, ^b2, ^b1 loc(#plan)
^b1:
  %15 = llvm.call @pw_rt_fail(%ctx, %14, %8, %9, %12) : (!llvm.ptr, i32, i32, i64, i64) -> i32 loc(#plan)
  llvm.return %15 : i32 loc(#plan)
^b2:
  %17 = arith.cmpi eq, %11, %16 : i64 loc(#plan)
  llvm.cond_br %17, ^b4, ^b3 loc(#plan)
^b3:
  %18 = llvm.call @pw_rt_fail(%ctx, %14, %8, %11, %16) : (!llvm.ptr, i32, i32, i64, i64) -> i32 loc(#plan)
  llvm.return %18 : i32 loc(#plan)
^b4:
  llvm.store %12, %7 : i64, !llvm.ptr loc(#plan)
  %19 = llvm.getelementptr %7[1] : (!llvm.ptr) -> !llvm.ptr, i64 loc(#plan)
  llvm.store %16, %19 : i64, !llvm.ptr loc(#plan)
  %20 = llvm.call @pw_rt_output(%ctx, %8, %7, %14) : (!llvm.ptr, i32, !llvm.ptr, i32) -> !llvm.ptr loc(#plan)
  %22 = llvm.icmp "ne" %20, %21 : !llvm.ptr loc(#plan)
  llvm.cond_br %22, ^b5, ^failed loc(#plan)
^b5:
  llvm.store %20, %1 : !llvm.ptr, !llvm.ptr loc(#plan)
  %23 = llvm.call @pw_rt_input(%ctx, %8) : (!llvm.ptr, i32) -> !llvm.ptr loc(#plan)
  %24 = llvm.icmp "ne" %23, %21 : !llvm.ptr loc(#plan)
  llvm.cond_br %24, ^b6, ^failed loc(#plan)
^b6:
  llvm.store %23, %3 : !llvm.ptr, !llvm.ptr loc(#plan)
  %25 = llvm.load %1 : !llvm.ptr -> !llvm.ptr loc(#plan)
  %26 = llvm.getelementptr %3[1] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr loc(#plan)
  llvm.store %25, %26 : !llvm.ptr, !llvm.ptr loc(#plan)
  llvm.store %0, %6 : i64, !llvm.ptr loc(#plan)
  %27 = llvm.getelementptr %6[1] : (!llvm.ptr) -> !llvm.ptr, i64 loc(#plan)
  llvm.store %0, %27 : i64, !llvm.ptr loc(#plan)
  %28 = llvm.getelementptr %6[2] : (!llvm.ptr) -> !llvm.ptr, i64 loc(#plan)
  llvm.store %0, %28 : i64, !llvm.ptr loc(#plan)
  %31 = llvm.call @pw_rt_launch(%ctx, %30, %3, %4, %6, %29, %10, %8) : (!llvm.ptr, !llvm.ptr, !llvm.ptr, !llvm.ptr, !llvm.ptr, i64, i32, i32) -> i32 loc(#plan)
  %32 = arith.cmpi eq, %31, %8 : i32 loc(#plan)
  llvm.cond_br %32, ^b7, ^failed loc(#plan)
^b7:
  llvm.return %8 : i32 loc(#plan)
^failed:
  %33 = llvm.call @pw_rt_status(%ctx) : (!llvm.ptr) -> i32 loc(#plan)
  llvm.return %33 : i32 loc(#plan)
} loc(#plan)
llvm.func hidden @pw_rt_dim(!llvm.ptr, i32, i32) -> i64
llvm.func hidden @pw_rt_input(!llvm.ptr, i32) -> !llvm.ptr
llvm.func hidden @pw_rt_weight(!llvm.ptr, i64) -> !llvm.ptr
llvm.func hidden @pw_rt_arena(!llvm.ptr, i32, i64) -> !llvm.ptr
llvm.func hidden @pw_rt_room(!llvm.ptr, i32, i64) -> i64
llvm.func hidden @pw_rt_front(!llvm.ptr, i32, i64) -> i64
llvm.func hidden @pw_rt_output(!llvm.ptr, i32, !llvm.ptr, i32) -> !llvm.ptr
llvm.func hidden @pw_rt_launch(!llvm.ptr, !llvm.ptr, !llvm.ptr, !llvm.ptr, !llvm.ptr, i64, i32, i32) -> i32
llvm.func hidden @pw_rt_host(!llvm.ptr, !llvm.ptr, !llvm.ptr, i32) -> i32
llvm.func hidden @pw_rt_image(!llvm.ptr, !llvm.ptr, !llvm.ptr, i32) -> i32
llvm.func hidden @pw_rt_held(!llvm.ptr, i32, !llvm.ptr, i64) -> i32
llvm.func hidden @pw_rt_fail(!llvm.ptr, i32, i32, i64, i64) -> i32
llvm.func hidden @pw_rt_status(!llvm.ptr) -> i32
llvm.func hidden @pw_rt_loop(!llvm.ptr, i32, i64, i64) -> i32
llvm.func hidden @pwk_map_max(!llvm.ptr, !llvm.ptr, !llvm.ptr, i64, i64, !llvm.ptr, !llvm.ptr)
llvm.mlir.global external hidden constant @pw_model_blob("") {addr_space = 0 : i32, alignment = 8 : i64} : !llvm.array<0 x i8>
llvm.mlir.global external hidden constant @pw_model_blob_size(0 : i64) {addr_space = 0 : i32, alignment = 8 : i64} : i64
