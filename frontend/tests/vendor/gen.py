# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Writes the cases beside this file: one operator of com.microsoft each, with the results of ONNX Runtime's CPU provider.

    python3 gen.py

Needs the wheels onnx, onnxruntime and numpy.
"""
import os

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper as h, numpy_helper as nh
rng=np.random.default_rng(0)
OUT=os.path.dirname(os.path.abspath(__file__))
tt={np.dtype('float32'):1,np.dtype('uint8'):2,np.dtype('int8'):3,np.dtype('int32'):6,np.dtype('int64'):7}
def case(name,op,ins,nout,inits=(),ms=True,otypes=None,**attrs):
    names=[];feeds={};it=[]
    gi=[]
    for i,a in enumerate(ins):
        if a is None: names.append(''); continue
        n=f'i{i}'; names.append(n)
        if i in inits: it.append(nh.from_array(a,n))
        else:
            gi.append(h.make_tensor_value_info(n,tt[a.dtype],list(a.shape))); feeds[n]=a
    outs=[f'o{i}' for i in range(nout)]
    node=h.make_node(op,names,outs,domain='com.microsoft' if ms else '',**attrs)
    otypes=otypes or [1]*nout
    g=h.make_graph([node],'g',gi,[h.make_tensor_value_info(o,t,None) for o,t in zip(outs,otypes)],it)
    m=h.make_model(g,opset_imports=[h.make_opsetid('',17),h.make_opsetid('com.microsoft',1)]); m.ir_version=8
    try:
        so=ort.SessionOptions(); so.log_severity_level=4
        s=ort.InferenceSession(m.SerializeToString(),so,providers=['CPUExecutionProvider'])
        r=s.run(None,feeds)
    except Exception as e:
        raise SystemExit(f'{name}: {e}')
    d=f'{OUT}/{name}/test_data_set_0'; os.makedirs(d,exist_ok=True); onnx.save(m,f'{OUT}/{name}/model.onnx')
    for i,(k,v) in enumerate(feeds.items()): open(f'{d}/input_{i}.pb','wb').write(nh.from_array(v,k).SerializeToString())
    for i,v in enumerate(r): open(f'{d}/output_{i}.pb','wb').write(nh.from_array(v,outs[i]).SerializeToString())
f=lambda *s: rng.standard_normal(s).astype(np.float32)
u=lambda *s: rng.integers(0,255,s).astype(np.uint8)
F=lambda v: np.array(v,np.float32)
U=lambda v: np.array(v,np.uint8)
case('qlinear_add','QLinearAdd',[u(2,3,4),F(.1),U(120),u(2,3,4),F(.2),U(100),F(.3),U(128)],1,inits=(1,2,4,5,6,7),otypes=[2])
case('qlinear_mul','QLinearMul',[u(2,3,4),F(.1),U(120),u(3,4),F(.02),U(100),F(.3),U(128)],1,inits=(1,2,4,5,6,7),otypes=[2])
case('qlinear_sigmoid','QLinearSigmoid',[u(2,3),F(.05),U(120),F(1/256),U(0)],1,inits=(1,2,3,4),otypes=[2])
case('qlinear_leaky','QLinearLeakyRelu',[u(2,3),F(.05),U(120),F(.05),U(20)],1,inits=(1,2,3,4),otypes=[2],alpha=.1)
case('qlinear_gap','QLinearGlobalAveragePool',[u(2,3,5,5),F(.05),U(120),F(.03),U(90)],1,inits=(1,2,3,4),otypes=[2],channels_last=0)
case('qlinear_concat','QLinearConcat',[F(.05),U(120),u(2,3),F(.03),U(90),u(2,4),F(.06),U(100)],1,inits=(0,1,3,4,6,7),otypes=[2],axis=1)
case('qlinear_softmax','QLinearSoftmax',[u(2,8),F(.05),U(120),F(1/256),U(0)],1,inits=(1,2,3,4),otypes=[2],axis=-1,opset=13)
case('qgemm','QGemm',[u(3,8),F(.05),U(120),u(8,5),F(.02),U(128),rng.integers(-50,50,5).astype(np.int32),F(.1),U(110)],1,inits=(1,2,3,4,5,6,7,8),otypes=[2])
case('qgemm_f','QGemm',[u(3,8),F(.05),U(120),u(5,8),F(.02),U(128),rng.integers(-50,50,5).astype(np.int32)],1,inits=(1,2,3,4,5,6),transB=1)
case('fused_conv','FusedConv',[f(1,3,6,6),f(4,3,3,3),f(4)],1,inits=(1,2),activation='Relu',kernel_shape=[3,3],pads=[1,1,1,1])
case('mha','MultiHeadAttention',[f(2,4,16),f(2,6,16),f(2,6,16)],1,num_heads=4)
case('mha_bias_mask','MultiHeadAttention',[f(2,4,16),f(2,6,16),f(2,6,16),f(48),np.array([[1,1,1,0,0,0],[1]*6],np.int32),f(2,4,4,6)],1,num_heads=4,inits=(3,))
case('mha_len','MultiHeadAttention',[f(2,4,16),f(2,6,16),f(2,6,16),None,np.array([3,6],np.int32)],1,num_heads=4)
case('mha_uni','MultiHeadAttention',[f(2,5,16),f(2,5,16),f(2,5,16)],1,num_heads=2,unidirectional=1)
case('mha_past','MultiHeadAttention',[f(2,1,16),f(2,1,16),f(2,1,16),None,None,None,f(2,2,3,8),f(2,2,3,8)],3,num_heads=2)
case('attention','Attention',[f(2,4,16),f(16,48),f(48)],1,num_heads=4,inits=(1,2))
case('attention_mask','Attention',[f(2,4,16),f(16,48),f(48),np.array([[1,1,1,0],[1]*4],np.int32)],1,num_heads=4,inits=(1,2))
case('attention_uni','Attention',[f(2,4,16),f(16,48),f(48)],1,num_heads=4,inits=(1,2),unidirectional=1)
case('attention_past','Attention',[f(2,2,16),f(16,48),f(48),None,f(2,2,4,3,4)],2,num_heads=4,inits=(1,2),unidirectional=1)
case('embed','EmbedLayerNormalization',[np.array([[1,2,3],[4,5,6]],np.int32),np.array([[0,0,1],[1,0,1]],np.int32),f(10,8),f(5,8),f(2,8),f(8),f(8),np.array([[1,1,0],[1,1,1]],np.int32)],2,inits=(2,3,4,5,6),otypes=[1,6])
case('gelu','Gelu',[f(3,5)],1); case('biasgelu','BiasGelu',[f(3,5),f(5)],1); case('fastgelu','FastGelu',[f(3,5),f(5)],1); case('quickgelu','QuickGelu',[f(3,5)],1)
case('fusedmm','FusedMatMul',[f(2,4,3),f(2,4,5)],1,transA=1,alpha=.5)
case('skipln','SkipLayerNormalization',[f(2,3,8),f(2,3,8),f(8),f(8),f(8)],1)
case('sln','SkipSimplifiedLayerNormalization',[f(2,3,8),f(2,3,8),f(8)],1)
for bits,zp in ((4,True),(4,False),(8,True)):
    N,K,bs=6,40,16; nb=(K+bs-1)//bs
    case(f'nbits{bits}{zp}','MatMulNBits',[f(2,3,K),rng.integers(0,255,(N,nb,bs*bits//8)).astype(np.uint8),f(N*nb)]+([rng.integers(0,255,(N*((nb*bits+7)//8))).astype(np.uint8)] if zp else []),1,inits=(1,2,3),K=K,N=N,bits=bits,block_size=bs)
case('dynmm','DynamicQuantizeMatMul',[f(3,8),u(8,5),F(.02),U(128)],1,inits=(1,2,3))
case('mmi2f','MatMulIntegerToFloat',[u(3,8),u(8,5),F(.02),F(.03),U(120),U(128)],1,inits=(1,2,3,4,5))
B,S,H,Hk,D,P=1,3,4,2,16,5
cos,sin=f(8,D//2),f(8,D//2)
case('gqa_prompt','GroupQueryAttention',[f(B,S,H*D),f(B,S,Hk*D),f(B,S,Hk*D),None,None,np.array([S-1]*B,np.int32),np.array(S,np.int32),cos,sin],3,num_heads=H,kv_num_heads=Hk,do_rotary=1,inits=(7,8))
case('gqa_decode','GroupQueryAttention',[f(B,1,H*D),f(B,1,Hk*D),f(B,1,Hk*D),f(B,Hk,P,D),f(B,Hk,P,D),np.array([P]*B,np.int32),np.array(P+1,np.int32),cos,sin],3,num_heads=H,kv_num_heads=Hk,do_rotary=1,inits=(7,8))
case('gqa_window','GroupQueryAttention',[f(B,7,H*D),f(B,7,Hk*D),f(B,7,Hk*D),None,None,np.array([6]*B,np.int32),np.array(7,np.int32)],3,num_heads=H,kv_num_heads=Hk,local_window_size=3,softcap=2.0)
case('rotary','RotaryEmbedding',[f(2,3,16),np.array([[0,1,2],[4,5,6]],np.int64),f(32,4),f(32,4)],1,inits=(2,3))
case('rotary_off','RotaryEmbedding',[f(2,4,3,8),np.array([2],np.int64),f(32,4),f(32,4)],1,inits=(2,3),interleaved=1)
