%% @doc Has subscribers told which nodes come and go.
%%
%% The server keeps the last changes, and the library which subscriber was told how far
%% (`native/epmd_nif/src/subscriptions.rs'). This process only says when: it is woken when
%% something has happened, and looks who has room for messages. When it ends, the one after
%% it goes on where it was.
-module(portmapper_events).
-behaviour(gen_server).

-export([start_link/0, subscribe/1, unsubscribe/1]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, code_change/3]).

%% Changes told to a subscriber before others get their turn.
-define(BATCH, 500).
%% Milliseconds until it is looked again whether a subscriber has read its messages, or
%% whether there is a server.
-define(RETRY, 100).

-type subscriptions() :: #{reference() => {pid(), Glob :: binary(), Monitor :: reference()}}.

-record(state, {
    %% The library that has these subscriptions.
    library :: pos_integer() | undefined,
    subscriptions = #{} :: subscriptions(),
    timer :: reference() | undefined
}).

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc See {@link portmapper:subscribe/1}.
-spec subscribe(Glob :: binary()) -> {ok, reference()}.
subscribe(Glob) ->
    _ = portmapper_server:server(),
    Reference = make_ref(),
    case portmapper_nif:subscribe(Reference, self(), Glob) of
        true ->
            %% If it is not there, its successor looks by itself.
            ok = gen_server:cast(?MODULE, look),
            {ok, Reference};
        false ->
            error(badarg, [Glob])
    end.

%% @doc See {@link portmapper:unsubscribe/1}.
-spec unsubscribe(reference()) -> boolean().
unsubscribe(Reference) ->
    Was = portmapper_nif:unsubscribe(Reference),
    ok = gen_server:cast(?MODULE, {forget, Reference}),
    ok = flush(Reference),
    Was.

flush(Reference) ->
    receive
        {portmapper, Reference, _Sequence, _Event} -> flush(Reference)
    after 0 -> ok
    end.

%% @private
-spec init([]) -> {ok, #state{}, {continue, look}}.
init([]) ->
    {ok, #state{}, {continue, look}}.

%% @private
handle_continue(look, State) ->
    {noreply, look(State)}.

%% @private
handle_call(_Request, _From, State) ->
    {reply, ok, State}.

%% @private
handle_cast(look, State) ->
    {noreply, look(State)};
handle_cast({forget, Reference}, #state{subscriptions = Known} = State) ->
    case Known of
        #{Reference := {_Pid, _Glob, Monitor}} -> demonitor(Monitor, [flush]);
        _ -> true
    end,
    {noreply, State#state{subscriptions = maps:remove(Reference, Known)}}.

%% @private
handle_info(portmapper, State) ->
    {noreply, look(State)};
handle_info(retry, State) ->
    {noreply, look(State#state{timer = undefined})};
handle_info({{ended, Reference}, _Monitor, process, _Pid, _Reason}, State) ->
    _ = portmapper_nif:unsubscribe(Reference),
    {noreply, State#state{subscriptions = maps:remove(Reference, State#state.subscriptions)}};
handle_info(_Message, State) ->
    {noreply, State}.

%% @private
code_change(_OldVersion, State, _Extra) ->
    {ok, look(State)}.

%% Tells every subscriber what there is to tell and it has room for.
look(State) ->
    ok = flush_wakes(),
    try
        Library = portmapper_server:call(fun portmapper_nif:attach_teller/1),
        Known = known(Library, State),
        #{subscriber_queue := Limit} = portmapper_server:call(fun portmapper_nif:config/1),
        Left = [tell(Reference, Pid, Limit) || {Reference, {Pid, _, _}} <- maps:to_list(Known)],
        _ = [self() ! portmapper || lists:member(more, Left)],
        Told = State#state{library = Library, subscriptions = Known},
        case lists:member(full, Left) of
            true -> retry(Told);
            false -> Told
        end
    catch
        %% There is no server: it is being replaced, maybe.
        error:{Reason, _} when
            Reason =:= not_running; Reason =:= not_handed_over; Reason =:= cannot_load_library
        ->
            retry(State)
    end.

%% This look is for all of them.
flush_wakes() ->
    receive
        portmapper -> flush_wakes()
    after 0 -> ok
    end.

retry(#state{timer = undefined} = State) ->
    State#state{timer = erlang:send_after(?RETRY, self(), retry)};
retry(State) ->
    State.

%% All subscriptions. Another library than before does not have those that were made
%% before it was loaded.
-spec known(Library :: pos_integer(), #state{}) -> subscriptions().
known(Library, #state{library = Before, subscriptions = Known}) ->
    _ = [
        portmapper_nif:subscribe(Reference, Pid, Glob)
     || Before =/= Library, {Reference, {Pid, Glob, _}} <- maps:to_list(Known)
    ],
    New = [One || {Reference, _, _} = One <- portmapper_nif:subscriptions(),
                  not is_map_key(Reference, Known)],
    lists:foldl(
        fun({Reference, Pid, Glob}, Map) ->
            Monitor = erlang:monitor(process, Pid, [{tag, {ended, Reference}}]),
            Map#{Reference => {Pid, Glob, Monitor}}
        end,
        Known,
        New
    ).

-spec tell(reference(), pid(), Limit :: pos_integer()) -> none | more | full.
tell(Reference, Pid, Limit) ->
    case process_info(Pid, message_queue_len) of
        {message_queue_len, Length} when Length >= Limit ->
            full;
        {message_queue_len, Length} ->
            Count = min(?BATCH, Limit - Length),
            case portmapper_server:call(fun(Server) ->
                portmapper_nif:deliver(Server, Reference, Count)
            end) of
                all -> tell_all(Reference);
                Left -> Left
            end;
        undefined ->
            %% It has ended, which will be told.
            none
    end.

tell_all(Reference) ->
    case portmapper_server:call(fun(Server) -> portmapper_nif:deliver_all(Server, Reference) end) of
        true -> more;
        false -> none
    end.
