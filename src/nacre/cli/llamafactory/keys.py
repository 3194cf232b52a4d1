"""LlamaFactory's other arguments: those that need no effect here, and those that nacre does not do.

None is passed over in silence. A key that asks for something else than `off` is answered: with a sentence after the
run where nothing is lost, in the one report before it where something would be.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

FALSE: tuple[Any, ...] = (None, False)
EMPTY: tuple[Any, ...] = (None, False, "", "none", "null", (), [], {}, "[]", "{}")


@dataclass(frozen=True)
class Idle:
    """A key without effect.

    Attributes:
        why: what nacre does anyway, or why the key has nothing to do here.
        off: values that need no remark.
    """

    why: str
    off: tuple[Any, ...] = FALSE


@dataclass(frozen=True)
class Refused:
    """A key that asks for what nacre does not do.

    Attributes:
        why: what is missing.
        instead: the nearest that there is.
        off: values that ask for nothing.
    """

    why: str
    instead: str
    off: tuple[Any, ...] = FALSE


Key = Idle | Refused
DELETE = "delete the key"


def _all(names: str, key: Key) -> Iterator[tuple[str, Key]]:
    return ((name, key) for name in names.split())


def _options(of: str, names: str, *usual: Any) -> Iterator[tuple[str, Key]]:
    """Keys that only say how another key is to be done; `usual` are their values where nobody sets them."""
    return _all(names, Idle(f"has no effect without {of}, which nacre does not have", (*EMPTY, *usual)))


OPTIMISER = Refused("nacre does not have this optimiser", "finetuning_type lora needs less memory still; or optim")
KERNEL = Refused("a way to compute faster that nacre does not switch on", f"{DELETE}: the result is the same without")
PARALLEL = Refused("nacre does not have this way to use several devices", "deepspeed or fsdp, with processes")
RAY = "--launch ray --processes N on the command line"
RAY_SETTINGS = Refused(
    "a cluster of Ray is taken as it runs", f"RAY_ADDRESS and {RAY}", (*EMPTY, {"GPU": 1}, "pack", "./saves")
)
MASTER = Refused(
    "where processes meet is said to the command", "--master ADDRESS:PORT with --launch torchrun --nodes N", EMPTY
)
EXPERTS = Refused(
    "experts do not train in the main memory through KTransformers", "deepspeed with a file that offloads", EMPTY
)
PROFILER = Refused(
    "nacre records no traces",
    "seconds by step are in trainer_log.jsonl; for a look inside: py-spy record -- nacre train FILE",
    EMPTY,
)
BENCHMARK = Refused(
    "scores a model, which LlamaFactory does with another command",
    "afterwards: nacre lm-eval run, or python src/evaluate.py --model_name_or_path OUTPUT_DIR",
)
PPO = Refused("nacre has no PPO", "stage dpo, on pairs of answers", EMPTY)
GENERATE = Refused(
    "nothing is generated while training", "afterwards: python src/evaluate.py --model_name_or_path OUTPUT_DIR", EMPTY
)
SPEED = Idle("concerns speed alone; nacre reads and tokenises in its own way", EMPTY)
MEDIA = Idle("rows with sound or film are refused, so there is nothing to set", EMPTY)
VISION = Refused(
    "what sees stays frozen here", "nacre.yaml: tune: {name: full, vision: projector} or vision: all", (None, True)
)
EXPORT = Refused("training exports nothing", "OUTPUT_DIR is a Hugging Face folder already", EMPTY)
HUB = Refused("nacre uploads nothing", "hf upload NAME OUTPUT_DIR", EMPTY)
TRACKER = Refused(
    "nacre does not report to it", "the curves are in trainer_log.jsonl and plot_loss draws them", (*EMPTY, ["none"])
)
TOKENS = Refused("the vocabulary stays as it is", f"{DELETE}: a marker that the vocabulary lacks is plain text", EMPTY)
REFERENCE = Refused("the reference is where training starts", "model_name_or_path names it", EMPTY)

KEYS: dict[str, Key] = {
    # the model
    "trust_remote_code": Idle("nacre never runs code that lies in a model's folder, whatever this says"),
    "flash_attn": Idle("transformers chooses how attention is computed", (None, "auto")),
    **dict(_all("cache_dir model_revision hf_hub_token ms_hub_token om_hub_token", Idle(
        "nothing is downloaded: a model is a folder, or lies in the hub's local cache", (*EMPTY, "main")))),
    "use_fast_tokenizer": Idle("transformers chooses the tokenizer", (None, True)),
    "low_cpu_mem_usage": Idle("weights are always read without a second copy", (None, True)),
    **dict(_all("resize_vocab add_tokens add_special_tokens new_special_tokens_config split_special_tokens", TOKENS)),
    "init_special_tokens": Idle("has no effect without add_special_tokens", (*EMPTY, "noise_init")),
    **dict(_all("rope_scaling shift_attn mixture_of_depths moe_aux_loss_coef train_from_scratch", Refused(
        "the model is trained as its config.json describes it", "change config.json in a copy of the folder", EMPTY))),
    **dict(_all("enable_liger_kernel use_liger_kernel use_v1_kernels use_unsloth use_ipex torch_compile torchdynamo",
                KERNEL)),
    **dict(_all("liger_kernel_config torch_compile_backend torch_compile_mode", Idle(
        "has no effect without the key that switches it on", EMPTY))),
    "use_unsloth_gc": Refused("nacre has no such checkpointing", "gradient_checkpointing: true"),
    "use_reentrant_gc": Idle("the kind of checkpointing is chosen by transformers", (None, True)),
    **dict(_all("upcast_layernorm upcast_lmhead_output pure_bf16 bf16_full_eval fp16_full_eval tf32", Refused(
        "trained weights are kept in float32 and computed in bf16 or fp16", "bf16 or fp16"))),
    **dict(_all("infer_backend infer_dtype offload_folder use_kv_cache use_cache print_param_status jit_mode_eval "
                "use_legacy_prediction_loop", Idle("has no effect on training", EMPTY))),
    **dict(_all("vllm_maxlen vllm_gpu_util vllm_enforce_eager vllm_max_lora_rank vllm_config sglang_maxlen "
                "sglang_mem_fraction sglang_tp_size sglang_config sglang_lora_backend", Idle(
                    "has no effect on training", (*EMPTY, 4096, 0.7, 32, -1, "triton")))),
    # quantisation
    "quantization_method": Refused("the base is quantised by bitsandbytes alone", "bnb",
                                   (None, "bnb", "bitsandbytes")),
    **dict(_all("fp8 fp8_enable_fsdp_float8_all_gather", Refused("nacre does not train in 8-bit floats", "bf16"))),
    "fp8_backend": Idle("has no effect without fp8", (None, "auto")),
    "quantization_device_map": Refused("the model lies on one device", DELETE),
    # the method
    "create_new_adapter": Idle("a new adapter is made unless adapter_name_or_path names one"),
    "adapter_folder": Refused("adapters are found by their own path", "adapter_name_or_path", EMPTY),
    "pissa_iter": Idle("the largest directions are computed exactly", (None, -1)),
    "pissa_convert": Idle("always done: what is saved sits on the base as it was", (None, True)),
    "loraplus_lr_embedding": Refused("adapters on embeddings learn at the common rate", "learning_rate", (None, 1e-6)),
    "oft_rank": Refused("orthogonal factors are set by their size", "oft_block_size", (None, 0)),
    **dict(_all("use_galore use_apollo use_badam use_adam_mini use_muon", OPTIMISER)),
    **dict(_options("use_galore", "galore_target galore_rank galore_update_interval galore_scale galore_proj_type "
                    "galore_layerwise")),
    **dict(_options("use_apollo", "apollo_target apollo_rank apollo_update_interval apollo_scale apollo_proj "
                    "apollo_proj_type apollo_scale_type apollo_layerwise apollo_scale_front")),
    **dict(_options("use_badam", "badam_mode badam_start_block badam_switch_mode badam_switch_interval "
                    "badam_update_ratio badam_mask_mode badam_verbose")),
    **dict(_all("use_dft_loss use_eaft_loss", Refused("answers are learned by plain cross-entropy", DELETE))),
    "use_asft_loss": Refused("this weighting of the loss is not there", "prev_model with regularization_alpha"),
    "asft_alpha": Idle("has no effect without use_asft_loss", EMPTY),
    "eaft_alpha": Idle("has no effect without use_eaft_loss", EMPTY),
    "loss_reduction": Refused("every token counts the same", DELETE, (None, "per_token")),
    **dict(_all("ref_model ref_model_adapters ref_model_quantization_bit", REFERENCE)),
    **dict(_all("dpo_label_smoothing pref_bco_weight", Refused("pairs count as they are", DELETE, (None, 0, 0.0)))),
    "ld_alpha": Refused("long answers count as they are", "pref_loss: simpo, which divides by length", EMPTY),
    **dict(_all("reward_model reward_model_adapters ppo_score_norm ppo_whiten_rewards", PPO)),
    **dict(_all("ppo_buffer_size ppo_epochs ppo_target reward_model_quantization_bit reward_model_type", Idle(
        "has no effect without PPO, which nacre does not have", EMPTY))),
    **dict(_all("freeze_vision_tower freeze_multi_modal_projector", VISION)),
    "freeze_language_model": Refused("the language model is what learns", DELETE, (None, False)),
    **dict(_all("image_max_pixels image_min_pixels image_do_pan_and_scan crop_to_patches", Idle(
        "the model's own processor says how large pictures become", EMPTY))),
    "media_dir": Idle("pictures are looked for in the dataset folder and beside the file of their rows", EMPTY),
    **dict(_all("video_max_pixels video_min_pixels video_fps video_maxlen use_audio_in_video audio_sampling_rate",
                MEDIA)),
    **dict(_all("use_mca use_hyper_parallel hyper_parallel_args use_megatron_bridge tpu_num_cores", PARALLEL)),
    "mp_parameters": Refused(PARALLEL.why, PARALLEL.instead, EMPTY),
    **dict(_all("use_kt kt_weight_path kt_expert_checkpoint_path kt_use_lora_experts kt_lora_expert_num "
                "kt_lora_expert_intermediate_size", EXPERTS)),
    "context_parallel_size": Refused("a row lies on one device", "a shorter cutoff_len", (None, 1)),
    # the data
    "train_on_prompt": Refused("answers alone are trained", "stage pt trains every token of plain texts"),
    "mask_history": Refused("every answer of a dialogue is trained", "give each dialogue's last turn as a row"),
    **dict(_all("packing neat_packing", Idle(
        "no row sees another, and a batch counts rows; a CPU computes no padding where the model bears it"))),
    "streaming": Refused("rows are read once and kept, so that they can be replayed", "max_samples"),
    "buffer_size": Idle("has no effect without streaming", EMPTY),
    "disable_shuffling": Refused("rows are shuffled by the seed", "one run for each part, in order"),
    "overwrite_cache": Idle("data is read afresh in every run, there is no cache to overwrite"),
    **dict(_all("preprocessing_num_workers preprocessing_batch_size dataloader_num_workers dataloader_prefetch_factor "
                "dataloader_persistent_workers dataloader_multiprocessing_context data_shared_file_system", SPEED)),
    "dataloader_pin_memory": Idle("done where there is a GPU", (None, True)),
    "ignore_pad_token_for_loss": Refused("padding is never trained", DELETE, (None, True)),
    "eval_on_each_dataset": Refused("held-out rows make one curve", "python src/evaluate.py scores each task apart"),
    "tool_format": Refused("tools are written by the chat template", "leave template out: the model's own is used",
                           EMPTY),
    "default_system": Refused("the system text is the rows' or the template's", 'a column "system" in the rows', EMPTY),
    "enable_thinking": Refused("whether an answer begins with a thought is the template's matter",
                               "template: qwen3_nothink", (None, True)),
    "preserve_thinking": Idle("thoughts of earlier turns stay in the text", (None, True, False)),
    "tokenized_path": Refused("tokens are not kept", "nacre data check DATASET looks the rows through", EMPTY),
    "camera_dropout": MEDIA,
    # checkpoints and output
    "resume_from_checkpoint": Refused("the same command goes on by itself from its newest whole checkpoint", DELETE,
                                      (None, True, False, "null")),
    "save_total_limit": Idle("checkpoints lie outside output_dir and go when the run is done", EMPTY),
    "save_only_model": Idle("output_dir holds the finished model alone", (None, True)),
    "save_strategy": Idle("checkpoints follow save_steps, so that a killed run can go on", (None, "steps")),
    "save_safetensors": Idle("weights are always written as safetensors", (None, True)),
    "save_on_each_node": Idle("the first process writes", EMPTY),
    **dict(_all("logging_dir run_name project", Idle("runs are named by task and settings, under .nacre/logs", EMPTY))),
    "logging_strategy": Idle("the log follows logging_steps", (None, "steps")),
    "logging_first_step": Idle("the log follows logging_steps"),
    "use_swanlab": TRACKER,
    **dict(_options("use_swanlab", "swanlab_project swanlab_workspace swanlab_run_name swanlab_mode swanlab_api_key "
                    "swanlab_logdir swanlab_lark_webhook_url swanlab_lark_secret")),
    **dict(_all("enable_torch_profiler profile_modules", PROFILER)),
    **dict(_options("enable_torch_profiler", "profiler_output_dir profiler_wait_steps profiler_warmup_steps "
                    "profiler_active_steps profiler_repeat profiler_record_shapes profiler_profile_memory "
                    "profiler_with_stack", 1, True)),
    **dict(_all("log_level log_level_replica log_on_each_node logging_nan_inf_filter disable_tqdm skip_memory_metrics "
                "include_num_input_tokens_seen include_tokens_per_second include_effective_tokens_per_second debug "
                "tpu_metrics_debug print_level", Idle("what is shown and logged is always the same", (
                    *EMPTY, True, "no", "passive", "warning", "info")))),
    # evaluation
    "do_eval": Refused("held-out rows are looked at while training", "eval_strategy: epoch", EMPTY),
    **dict(_all("do_predict predict_with_generate compute_accuracy generation_max_length "
                "generation_num_beams generation_config eval_num_beams eval_on_start batch_eval_metrics", GENERATE)),
    **dict(_all("per_device_eval_batch_size per_gpu_eval_batch_size", Idle(
        "held-out rows are looked at in batches of the training's size", EMPTY))),
    **dict(_all("eval_delay eval_accumulation_steps eval_do_concat_batches eval_use_gather_object "
                "include_for_metrics include_inputs_for_metrics prediction_loss_only", Idle(
                    "held-out rows give a loss, nothing more", (*EMPTY, 0, True)))),
    "load_best_model_at_end": Refused("the last weights are kept", "early_stopping_steps"),
    **dict(_all("metric_for_best_model greater_is_better", Idle("the loss on held-out rows is what counts",
                                                                (*EMPTY, "loss", "eval_loss")))),
    # the optimiser's details
    "adam_beta1": Refused("AdamW runs with its usual constants", DELETE, (None, 0.9)),
    "adam_beta2": Refused("AdamW runs with its usual constants", DELETE, (None, 0.999)),
    "adam_epsilon": Refused("AdamW runs with its usual constants", DELETE, (None, 1e-8)),
    "adafactor": Refused("the optimizer is chosen by its name", "optim: adafactor"),
    **dict(_all("half_precision_backend fp16_backend fp16_opt_level", Idle(
        "16-bit training is PyTorch's own", (*EMPTY, "auto", "o1")))),
    "past_index": Refused("nothing is carried from one batch to the next", DELETE, (None, -1)),
    **dict(_all("optim_args optim_target_modules", Refused(
        "optimisers run with their usual constants", "optim", EMPTY))),
    "lr_scheduler_kwargs": Refused("schedules run with their usual constants", "lr_scheduler_type", EMPTY),
    "label_smoothing_factor": Refused("labels count as they are", "neftune_noise_alpha", (None, 0, 0.0)),
    "auto_find_batch_size": Refused("the batch is the one that is given", "gradient_accumulation_steps saves memory"),
    "torch_empty_cache_steps": Idle("concerns memory alone; transformers decides", EMPTY),
    **dict(_all("group_by_length dataloader_drop_last ignore_data_skip full_determinism", Refused(
        "the order of the rows is fixed by the seed, so that every batch holds its true mixture", DELETE))),
    "data_seed": Idle("the order of the rows follows seed", EMPTY),
    "train_sampling_strategy": Refused(
        "the order of the rows is fixed by the seed, so that every batch holds its true mixture", DELETE,
        (None, "random")),
    "dataloader_in_order": Idle("rows come in their order", (None, True)),
    "average_tokens_across_devices": Idle("always done", (None, True)),
    # several processes
    "use_ray": Refused("the command says what starts the processes", RAY),
    "ray_num_workers": Refused("the command says how many workers there are", RAY, (None, 1)),
    **dict(_all("ray_init_kwargs ray_run_name ray_storage_path ray_storage_filesystem resources_per_worker "
                "placement_strategy", RAY_SETTINGS)),
    "ray_scope": Idle("nacre does not look for settings with Ray", (*EMPTY, "last")),
    **dict(_all("master_addr master_port", MASTER)),
    **dict(_all("fsdp_config fsdp_min_num_params fsdp_transformer_layer_cls_to_wrap", Idle(
        "how the model is wrapped and saved is settled by nacre", EMPTY))),
    **dict(_all("ddp_timeout ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph "
                "ddp_backend local_rank", Idle("how processes talk to each other is settled by accelerate",
                                              (*EMPTY, -1, 1800)))),
    **dict(_all("parallelism_config accelerator_config enable_jit_checkpoint", PARALLEL)),
    **dict(_all("use_cpu no_cuda", Refused(
        "the first GPU is used where there is one", "CUDA_VISIBLE_DEVICES= before the command"))),
    "use_mps_device": Refused("nacre computes on a CUDA device or the CPU", DELETE),
    # other verbs' keys
    **dict(_all("push_to_hub hub_token hub_private_repo hub_model_id hub_always_push hub_revision "
                "push_to_hub_model_id push_to_hub_organization push_to_hub_token "
                "trackio_space_id trackio_bucket_id trackio_static_space_id", HUB)),
    "hub_strategy": Idle("has no effect without push_to_hub", EMPTY),
    **dict(_all("export_dir export_quantization_bit export_quantization_dataset", EXPORT)),
    **dict(_all("export_size export_device export_quantization_nsamples export_quantization_maxlen "
                "export_legacy_format export_hub_model_id", Idle("training exports nothing", EMPTY))),
    **dict(_all("task task_dir lang n_shot download_mode", BENCHMARK)),
    "batch_size": Refused("counts rows for LlamaFactory's eval alone", "per_device_train_batch_size"),
    "save_dir": Refused("names a folder for LlamaFactory's eval alone", "output_dir"),
    **dict(_all("do_sample temperature top_p top_k num_beams max_length max_new_tokens repetition_penalty "
                "length_penalty skip_special_tokens", Idle("nothing is generated while training", EMPTY))),
    **dict(_all("remove_unused_columns label_names length_column_name sortish_sampler "
                "restore_callback_states_from_checkpoint activation_checkpointing_kwargs gradient_checkpointing_kwargs",
                Idle("settled by nacre", (*EMPTY, True, "length")))),
    "activation_checkpointing": Refused("transformers' newer name is not read", "gradient_checkpointing"),
}  # fmt: skip
